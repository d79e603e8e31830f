package starter_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/start-server/start-server/starter"
)

// A program that embeds the superdaemon counts how often its server crashes, and gives up after two
// crashes.
func Example_countCrashes() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	c := starter.NewConfig("sh", "-c", "sleep 0.1; exit 3")
	c.Interval = 10 * time.Millisecond
	c.LogFile = os.DevNull
	crashes := 0
	c.OnEvent = func(e starter.Event) {
		switch e := e.(type) {
		case starter.WorkerDied:
			if e.Stopped || crashes == 2 {
				break
			}
			crashes++
			fmt.Printf("crash %d: exit status %d\n", crashes, e.Status>>8)
			if crashes == 2 {
				stop()
			}
		}
	}
	if err := starter.Run(ctx, c); err != nil {
		fmt.Println(err)
	}
	// Output:
	// crash 1: exit status 3
	// crash 2: exit status 3
}

// A deploy tool restarts the server without a signal, and waits for the verdict.
func ExampleRunner_Restart() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	c := starter.NewConfig("sleep", "1000")
	c.Interval = 10 * time.Millisecond
	c.MaxAttempts = 3
	c.LogFile = os.DevNull
	ready, verdict := make(chan struct{}, 1), make(chan string, 1)
	c.OnEvent = func(e starter.Event) {
		switch e := e.(type) {
		case starter.WorkerReady:
			if e.Generation == 1 {
				ready <- struct{}{}
			}
		case starter.RestartSucceeded:
			verdict <- fmt.Sprintf("generation %d serves", e.Generation)
		case starter.RestartGivenUp:
			verdict <- fmt.Sprintf("given up after %d attempts: %s", e.Attempts, e.Reason)
		}
	}
	r := starter.New(c)
	go func() {
		<-ready
		r.Restart()
		fmt.Println(<-verdict)
		stop()
	}()
	if err := r.Run(ctx); err != nil {
		fmt.Println(err)
	}
	// Output: generation 2 serves
}
