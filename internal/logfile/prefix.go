package logfile

import "time"

// AppendPrefix appends what a line of the superdaemon begins with: the time, as in RFC 3339, and a text.
// Without a text it is nothing.
func AppendPrefix(line []byte, text string) []byte {
	if text == "" {
		return line
	}
	line = time.Now().AppendFormat(line, time.RFC3339)
	line = append(append(line, ' '), text...)
	return append(line, ' ')
}
