package logfile

import "time"

// AppendPrefix appends the prefix of a line of the superdaemon: the time in the form of RFC 3339,
// and the text. If the text is "", it appends nothing.
func AppendPrefix(line []byte, text string) []byte {
	if text == "" {
		return line
	}
	line = time.Now().AppendFormat(line, time.RFC3339)
	line = append(append(line, ' '), text...)
	return append(line, ' ')
}
