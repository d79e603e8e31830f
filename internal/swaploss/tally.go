package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// patience is how long to wait for a condition.
const patience = 30 * time.Second

// tally counts the answers of each generation.
type tally struct {
	enough int64
	mu     sync.Mutex
	counts map[int]int64
	full   chan int // the generations that have given enough answers
}

func newTally(enough int64) *tally {
	return &tally{enough: enough, counts: make(map[int]int64), full: make(chan int, 1000)}
}

// check counts an answer. It is a Check of load.Target.
func (t *tally) check(response *http.Response, body []byte) error {
	var generation int
	if _, err := fmt.Sscanf(string(body), greeting, &generation); err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("answer %s %q", response.Status, body)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts[generation]++
	if t.counts[generation] == t.enough {
		t.full <- generation
	}
	return nil
}

// wait waits until the generation has given enough answers.
func (t *tally) wait(ctx context.Context, generation int) error {
	timeout := time.After(patience)
	for {
		select {
		case g := <-t.full:
			if g == generation {
				return nil
			}
		case <-timeout:
			return fmt.Errorf("generation %d does not answer", generation)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
