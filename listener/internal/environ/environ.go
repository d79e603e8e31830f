// Package environ remembers variables that were taken out of the environment.
package environ

import (
	"os"
	"sync"
)

var (
	mu    sync.Mutex
	taken = make(map[string]string)
)

// Take removes the variables from the environment. Lookup keeps finding them.
func Take(names ...string) {
	mu.Lock()
	defer mu.Unlock()
	for _, name := range names {
		if value, ok := os.LookupEnv(name); ok {
			taken[name] = value
			os.Unsetenv(name)
		}
	}
}

// Lookup is [os.LookupEnv], for variables that were taken as well. One that was set again since
// counts as it is now.
func Lookup(name string) (string, bool) {
	if value, ok := os.LookupEnv(name); ok {
		return value, true
	}
	mu.Lock()
	defer mu.Unlock()
	value, ok := taken[name]
	return value, ok
}

// Get is [os.Getenv] by Lookup.
func Get(name string) string {
	value, _ := Lookup(name)
	return value
}

// Forget forgets what was taken, for tests that set variables of their own.
func Forget() {
	mu.Lock()
	defer mu.Unlock()
	clear(taken)
}
