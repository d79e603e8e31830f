require "socket"
listener = TCPServer.for_fd(ENV["SERVER_STARTER_PORT"][/\d+$/].to_i)
stopped, stop = IO.pipe
trap("TERM") { stop.close }
until IO.select([listener, stopped])[0].include?(stopped)
  client = listener.accept_nonblock(exception: false)
  next if client == :wait_readable # another generation was faster
  while (line = client.gets) && line != "\r\n"; end
  body = "hello from #{$$}\n"
  client.write "HTTP/1.1 200 OK\r\nContent-Length: #{body.size}\r\nConnection: close\r\n\r\n#{body}"
  client.close
end
