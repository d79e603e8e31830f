package workers

import (
	"fmt"

	"github.com/start-server/start-server/internal/copies"
	"github.com/start-server/start-server/internal/orphan"
	"github.com/start-server/start-server/internal/sdnotify"
)

// WorkerState is what crosses an upgrade.
type WorkerState struct {
	Receivers []ReceiverState `json:"receivers"`
	Adopted   []AdoptedState  `json:"adopted"`
	Copies    copies.List     `json:"copies,omitempty"` // of workers of several processes
}

// ReceiverState is the notify socket of a worker.
type ReceiverState struct {
	Worker     int    `json:"worker"` // pid
	Descriptor int    `json:"descriptor"`
	Address    string `json:"address"`
}

// AdoptedState is a worker that is not a child.
type AdoptedState struct {
	Worker     int `json:"worker"`     // pid
	Descriptor int `json:"descriptor"` // its pidfd
}

// Descriptors returns those that stay open across an upgrade.
func (s WorkerState) Descriptors() (fds []int) {
	for _, r := range s.Receivers {
		fds = append(fds, r.Descriptor)
	}
	for _, a := range s.Adopted {
		fds = append(fds, a.Descriptor)
	}
	return fds
}

// Check returns an error if a part of the state belongs to no worker.
func (s WorkerState) Check(isWorker func(pid int) bool) error {
	for _, r := range s.Receivers {
		if !isWorker(r.Worker) {
			return fmt.Errorf("process %d has a notify socket and is not a worker", r.Worker)
		}
	}
	for _, a := range s.Adopted {
		if !isWorker(a.Worker) {
			return fmt.Errorf("process %d was adopted and is not a worker", a.Worker)
		}
	}
	return nil
}

// State returns the present state.
func (w *Workers) State() (s WorkerState) {
	s.Copies = w.copies
	for pid, p := range w.adopted.processes {
		s.Adopted = append(s.Adopted, AdoptedState{Worker: pid, Descriptor: p.Descriptor})
	}
	for pid, r := range w.receivers {
		s.Receivers = append(s.Receivers, ReceiverState{Worker: pid, Descriptor: r.Descriptor(), Address: r.Address()})
	}
	return s
}

// Resume continues from the state before an upgrade.
func (w *Workers) Resume(s WorkerState) {
	if s.Copies != nil {
		w.copies = s.Copies
	}
	for _, a := range s.Adopted {
		w.Adopt(orphan.Process{PID: a.Worker, Descriptor: a.Descriptor})
	}
	for _, r := range s.Receivers {
		w.receive(r.Worker, sdnotify.Adopt(r.Descriptor, r.Address))
	}
}
