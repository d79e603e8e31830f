# A web server without modules from CPAN: one connection at a time.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;

my ($fd) = $ENV{SERVER_STARTER_PORT} =~ /=(\d+)\z/;
my $listener = IO::Socket::INET->new_from_fd($fd, "r+") or die "descriptor $fd: $!";
$listener->blocking(0);    # another generation may be faster to accept
my $stop;
$SIG{TERM} = sub { $stop = 1 };
my $select = IO::Select->new($listener);
until ($stop) {
    $select->can_read(1) or next;    # a second, as perl runs no handler for a TERM that comes just before
    my $client = $listener->accept or next;
    $client->blocking(1);
    while (defined(my $line = <$client>)) { last if $line eq "\r\n" }
    my $body = "hello from $$\n";
    print $client "HTTP/1.1 200 OK\r\nContent-Length: ", length $body, "\r\nConnection: close\r\n\r\n", $body;
}
