package status

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// Report is the status for programs, one JSON object. Fields are only ever added.
type Report struct {
	Superdaemon    Superdaemon     `json:"superdaemon"`
	Workers        []WorkerReport  `json:"workers"`         // the living ones, oldest first
	FailedAttempts *FailedAttempts `json:"failed_attempts"` // nil if the latest attempt has not failed
	LastRestart    *Restart        `json:"last_restart"`    // nil before the first one
}

// Superdaemon describes the superdaemon.
type Superdaemon struct {
	PID     int       `json:"pid"`
	Version string    `json:"version"`
	Started time.Time `json:"started,omitzero"`
	Phase   string    `json:"phase"` // starting, running, delaying or stopping
	Options Options   `json:"options"`
}

// Options are the options of the superdaemon that explain what it waits for, in seconds; 0 if they
// were not given.
type Options struct {
	Interval      float64 `json:"interval"`
	ReadyTimeout  float64 `json:"ready_timeout,omitempty"`
	AcceptTimeout float64 `json:"accept_timeout,omitempty"`
	KillTimeout   float64 `json:"kill_timeout,omitempty"`
	LogFile       string  `json:"log_file,omitempty"`
}

// WorkerReport describes a worker.
type WorkerReport struct {
	PID        int       `json:"pid"`
	Generation int       `json:"generation"`
	State      string    `json:"state"`          // starting, serving or stopping
	Since      time.Time `json:"since,omitzero"` // when it entered that state
	Status     string    `json:"status"`
	Adopted    bool      `json:"adopted,omitempty"` // it was left by a superdaemon that was killed
	Number     int       `json:"number,omitempty"`  // among the workers of its generation, if there are several
	Parent     int       `json:"parent,omitempty"`  // if there are several, the pid that the log and the status file name
	Missing    []string  `json:"missing,omitempty"` // sockets on which it does not accept connections yet
}

// FailedAttempts are the attempts to start a worker that failed in a row.
type FailedAttempts struct {
	Count  int    `json:"count"`
	Reason string `json:"reason"` // why the latest of them failed
}

// Restart describes a restart that was requested.
type Restart struct {
	Number     int      `json:"number"` // 1 for the first one
	Result     string   `json:"result"` // "in progress", "succeeded", "given up" or "cancelled"
	Generation int      `json:"generation"`
	Attempts   int      `json:"attempts"`
	Reason     string   `json:"reason"`
	Duration   *float64 `json:"duration"` // seconds, nil while it is in progress

	Ended time.Time `json:"ended,omitzero"`
}

// Timestamp returns a time in the form of a Report: whole seconds in UTC, which jq's fromdate
// accepts.
func Timestamp(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// Encode returns the text of the file, indented, since people read it as well.
func (r Report) Encode() []byte {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		panic(err) // cannot happen: it consists of strings, numbers and times
	}
	return append(text, '\n')
}

// ReadReport reads the JSON status of a superdaemon.
func ReadReport(path string) (Report, error) {
	var r Report
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return Report{}, fmt.Errorf("read JSON status %q: %w", path, err)
	}
	return r, nil
}
