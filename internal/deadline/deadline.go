// Package deadline has the deadline of what need not happen. The sooner of two deadlines is their
// minimum.
package deadline

import (
	"math"
	"time"
)

// Never is later than every other deadline, and longer than every wait.
const Never = time.Duration(math.MaxInt64)
