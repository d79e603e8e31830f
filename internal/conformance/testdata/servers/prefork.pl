# A web server of a few lines on Net::Server::SS::PreFork.
use strict;
use warnings;
use base qw(Net::Server::SS::PreFork);

sub process_request {
    my $self = shift;
    while (defined(my $line = <STDIN>)) { last if $line =~ /^\r?\n$/ }
    print "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n";
}

__PACKAGE__->run(port => 0, min_servers => 3, max_servers => 6, min_spare_servers => 1, max_spare_servers => 3);
