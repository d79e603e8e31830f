package status

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Every text of --show is in this file.

const columns = 80

// Text returns the Report for a person, in lines of at most 80 columns, in colour if wanted.
func (r Report) Text(now time.Time, colour bool) string {
	t := &text{now: now, colour: colour}
	t.headline(r)
	t.table(r.Workers)
	t.waiting(r)
	t.failing(r)
	t.lastRestart(r)
	return t.String()
}

// NotServing returns nil if a worker serves, else an error with the reason that none does.
func (r Report) NotServing() error {
	starting := r.find("starting")
	switch {
	case len(r.find("serving")) > 0:
		return nil
	case r.Superdaemon.Phase == "stopping":
		return errors.New("no worker serves: start_server is stopping")
	case r.FailedAttempts != nil:
		return fmt.Errorf("no worker serves: %s", r.FailedAttempts.text())
	case len(starting) > 0:
		return fmt.Errorf("no worker serves: worker %d is starting", starting[0].PID)
	}
	return errors.New("no worker serves")
}

// LeftText returns the text about workers that a superdaemon left when it was killed.
func LeftText(left []WorkerReport, pidFile, statusFile string, now time.Time, colour bool) string {
	t := &text{now: now, colour: colour}
	t.line("start_server is " + t.paint(red, "not running") + "; it was killed.")
	if len(left) == 0 {
		t.line("The status file names no worker that is left.")
		return t.String()
	}
	t.table(left)
	t.line(count(len(left), "worker") + " that it left may still serve.")
	t.help("to take over: start it again with the same command")
	t.help(fmt.Sprintf("to stop: start_server --stop --pid-file=%s --status-file=%s", quote(pidFile), quote(statusFile)))
	return t.String()
}

// text collects lines.
type text struct {
	strings.Builder
	now    time.Time
	colour bool
}

const (
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (t *text) paint(colour, s string) string {
	if !t.colour {
		return s
	}
	return "\033[" + colour + "m" + s + "\033[0m"
}

// line adds a line, broken between words.
func (t *text) line(s string) { t.wrap(s, "  ") }

// help adds a line that says which command helps.
func (t *text) help(s string) { t.wrap("  ("+s+")", "   ") }

func (t *text) wrap(s, indent string) {
	width, separator := 0, ""
	for _, word := range strings.Split(s, " ") {
		if width > 0 && width+len(separator)+displayed(word) > columns {
			width, separator = 0, "\n"+indent
		}
		t.WriteString(separator + word)
		width += len(strings.TrimPrefix(separator, "\n")) + displayed(word)
		separator = " "
	}
	t.WriteByte('\n')
}

// displayed returns the width of a text, in which colours take no room.
func displayed(s string) (width int) {
	escape := false
	for _, c := range s {
		switch {
		case c == '\033':
			escape = true
		case escape:
			escape = c != 'm'
		default:
			width++
		}
	}
	return width
}

func (t *text) headline(r Report) {
	s := "start_server"
	if v := r.Superdaemon.Version; v != "" {
		s += " " + clean(v)
	}
	s += fmt.Sprintf(" (pid %d)", r.Superdaemon.PID)
	if !r.Superdaemon.Started.IsZero() {
		s += ", up " + t.since(r.Superdaemon.Started)
	}
	colour, state := r.summary()
	t.line(s + ": " + t.paint(colour, state))
}

// summary returns what matters most.
func (r Report) summary() (colour, state string) {
	serving, last := len(r.find("serving")) > 0, r.LastRestart
	restarting := r.Superdaemon.Phase == "starting" || r.Superdaemon.Phase == "delaying"
	switch {
	case r.Superdaemon.Phase == "stopping" && serving:
		return yellow, "stopping, still serving"
	case r.Superdaemon.Phase == "stopping":
		return yellow, "stopping"
	case !serving && r.FailedAttempts != nil:
		return red, "not serving, workers fail to start"
	case !serving && restarting:
		return yellow, "starting"
	case !serving:
		return red, "not serving"
	case r.FailedAttempts != nil:
		return yellow, "serving, but new workers fail to start"
	case restarting && last != nil && last.Result == "in progress":
		return yellow, "serving, restarting"
	case restarting:
		return yellow, "serving, starting a new worker"
	case last != nil && last.Result == "given up":
		return yellow, "serving, last restart given up"
	}
	return green, "serving"
}

// table adds a line for each worker.
func (t *text) table(workers []WorkerReport) {
	if len(workers) == 0 {
		return
	}
	lines := make([]string, 1+len(workers))
	for _, column := range []struct {
		name string
		cell func(WorkerReport) string
	}{
		{"GENERATION", func(w WorkerReport) string { return strconv.Itoa(w.Generation) }},
		{"WORKER", func(w WorkerReport) string { return strings.TrimPrefix(strconv.Itoa(w.Number), "0") }},
		{"PID", func(w WorkerReport) string { return strconv.Itoa(w.PID) }},
		{"STATE", t.state},
		{"SINCE", func(w WorkerReport) string { return t.since(w.Since) }},
		{"STATUS", func(w WorkerReport) string { return clean(w.Status) }},
	} {
		cells, width := []string{column.name}, 0
		for _, w := range workers {
			cells = append(cells, column.cell(w))
			width = max(width, displayed(cells[len(cells)-1]))
		}
		for i, cell := range cells {
			if width > 0 { // no worker has it otherwise
				cell = cut(cell, columns-displayed(lines[i]))
				lines[i] += cell + strings.Repeat(" ", max(width, len(column.name))-displayed(cell)+2)
			}
		}
	}
	t.WriteByte('\n')
	for _, line := range lines {
		t.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	t.WriteByte('\n')
}

func (t *text) state(w WorkerReport) string {
	colour := yellow
	if w.State == "serving" {
		colour = green
	}
	if w.Adopted {
		w.State += " (taken over)"
	}
	return t.paint(colour, w.State)
}

// waiting adds what the superdaemon waits for.
func (t *text) waiting(r Report) {
	starting, old := r.find("starting"), r.find("stopping")
	for _, w := range starting {
		t.line(fmt.Sprintf("Waiting for worker %d to %s.", w.PID, t.start(r.Superdaemon.Options, w)))
	}
	switch phase := r.Superdaemon.Phase; {
	case phase == "starting" && len(starting) == 0 && r.FailedAttempts != nil:
		t.line(fmt.Sprintf("Waiting to try again: attempts are at least %s apart (--interval).", seconds(r.Superdaemon.Options.Interval)))
	case phase == "starting" && len(starting) == 0 && len(old) > 0 && len(r.find("serving")) == 0:
		t.line("The next worker is started when the old ones have finished (--stop-first).")
	case phase == "delaying":
		t.line("Old workers are told to stop when --kill-old-delay is over.")
	case phase == "stopping" && len(r.find("serving")) > 0:
		t.line("The workers are told to stop when --stop-delay is over.")
		t.help(fmt.Sprintf("to stop them now: kill -TERM %d", r.Superdaemon.PID))
	}
	t.old(r, old)
}

// start returns what tells that a worker has started.
func (t *text) start(o Options, w WorkerReport) string {
	if len(w.Missing) > 0 {
		return "accept connections on " + clean(strings.Join(w.Missing, ", ")) + t.soFar(o.AcceptTimeout, w.Since, "--accept-timeout")
	}
	if o.ReadyTimeout > 0 {
		return "send READY=1" + t.soFar(o.ReadyTimeout, w.Since, "--ready-timeout")
	}
	return fmt.Sprintf("run for %s (--interval)", seconds(o.Interval))
}

// soFar returns how long a worker has had to start, and how long it has at most.
func (t *text) soFar(timeout float64, since time.Time, option string) string {
	limit := fmt.Sprintf(", at most %s (%s)", seconds(timeout), option)
	if t.now.Sub(since).Seconds() > timeout+1 { // EXTEND_TIMEOUT_USEC
		limit = ", it has asked for more time"
	}
	return ": " + t.since(since) + " so far" + limit
}

// old adds a line about the workers that were told to stop.
func (t *text) old(r Report, old []WorkerReport) {
	if len(old) == 0 {
		return
	}
	noun := "old worker"
	if r.Superdaemon.Phase == "stopping" {
		noun = "worker"
	}
	who, kill := fmt.Sprintf("%s %d", noun, old[0].PID), fmt.Sprintf("to end it now: kill -KILL %d", old[0].PID)
	if len(old) > 1 {
		who, kill = count(len(old), noun), "to end one now: kill -KILL PID"
	}
	line := "Waiting for " + who + " to finish"
	if limit := r.Superdaemon.Options.KillTimeout; limit > 0 {
		line += fmt.Sprintf(", which takes at most %s (--kill-timeout)", seconds(limit))
	}
	t.line(line + ".")
	t.help(kill)
}

// failing adds why workers do not start.
func (t *text) failing(r Report) {
	if r.FailedAttempts == nil {
		return
	}
	t.line(capital(r.FailedAttempts.text()) + ".")
	place := "the standard error of start_server"
	if log := r.Superdaemon.Options.LogFile; log != "" {
		place = clean(log)
	}
	t.help("what they print is in the log: " + place)
}

func (f FailedAttempts) text() string {
	if f.Count == 1 {
		return "the last attempt to start a worker has failed: " + clean(f.Reason)
	}
	return fmt.Sprintf("the last %d attempts to start a worker have failed: %s", f.Count, clean(f.Reason))
}

// lastRestart adds how the last restart ended.
func (t *text) lastRestart(r Report) {
	last := r.LastRestart
	if last == nil {
		return
	}
	took := ""
	if last.Duration != nil {
		took = ", in " + seconds(*last.Duration)
	}
	when := ""
	if !last.Ended.IsZero() {
		when = " " + t.since(last.Ended) + " ago"
	}
	switch attempts := count(last.Attempts, "attempt"); last.Result {
	case "in progress":
		t.line(fmt.Sprintf("Restart under way: %s so far.", attempts))
	case "given up":
		t.line(fmt.Sprintf("Last restart: given up%s, after %s%s: %s.", when, attempts, took, clean(last.Reason)))
		t.help(fmt.Sprintf("to try again: kill -HUP %d", r.Superdaemon.PID))
	default:
		t.line(fmt.Sprintf("Last restart: %s%s, after %s%s.", clean(last.Result), when, attempts, took))
	}
}

// since returns the time since then as people say it, "" if that is not known.
func (t *text) since(then time.Time) string {
	if then.IsZero() {
		return ""
	}
	return seconds(max(t.now.Sub(then), 0).Truncate(time.Second).Seconds())
}

// seconds returns a duration as people say it.
func seconds(n float64) string {
	switch {
	case n < 100:
		return strconv.FormatFloat(float64(int(n*10))/10, 'f', -1, 64) + " s"
	case n < 100*60:
		return fmt.Sprintf("%d min", int(n/60))
	case n < 48*60*60:
		return fmt.Sprintf("%d h", int(n/60/60))
	}
	return fmt.Sprintf("%d days", int(n/60/60/24))
}

// find returns the workers in a state.
func (r Report) find(state string) (found []WorkerReport) {
	for _, w := range r.Workers {
		if w.State == state {
			found = append(found, w)
		}
	}
	return found
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// cut shortens a text without colours to a width.
func cut(s string, width int) string {
	if r := []rune(s); displayed(s) > width {
		return string(r[:max(width-3, 0)]) + "..."
	}
	return s
}

// clean drops what could change the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
}

// quote quotes a word for the shell if that is necessary.
func quote(s string) string {
	if strings.Trim(s, "/._-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" && s != "" {
		return s
	}
	return "'" + strings.ReplaceAll(clean(s), "'", `'\''`) + "'"
}
