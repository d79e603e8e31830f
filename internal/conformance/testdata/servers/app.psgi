# The application of the PSGI servers.
sub { [200, ["Content-Type" => "text/plain"], ["hello\n"]] };
