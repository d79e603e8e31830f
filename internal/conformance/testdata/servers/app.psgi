# The application of the PSGI servers, which takes $LOAD seconds to load.
sleep($ENV{LOAD} || 0);
sub { [200, ["Content-Type" => "text/plain"], ["hello\n"]] };
