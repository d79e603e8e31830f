//go:build !unix

package graceful

import "os"

var quit, ignored []os.Signal // start_server does not run there
