package printer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"
)

// Source is what a command prints.
type Source[T any] struct {
	Get   func(context.Context) (T, error)
	Table func(io.Writer, T) error
	// Essence is what makes a value another when it changed; nil: all of it, as JSON has it.
	Essence func(T) any
}

// Out is where a command prints to.
type Out struct {
	Flags
	To       io.Writer
	Problems io.Writer     // what goes wrong while watching, one line each
	Terminal bool          // To is one: tables are written over the last
	Period   time.Duration // between two looks; 0: a second
}

// Print prints a source, and with Watch goes on until ctx ends. It returns what it has printed last.
func Print[T any](ctx context.Context, o Out, s Source[T]) (T, error) {
	value, err := s.Get(ctx)
	if err != nil && o.Watch && ctx.Err() != nil {
		return value, nil // ended before there was anything to print
	}
	if err != nil {
		return value, err
	}
	if !o.Watch {
		text, err := render(o, s, value, false)
		if err != nil {
			return value, err
		}
		return value, write(o.To, text)
	}
	return watch(ctx, o, s, value)
}

func render[T any](o Out, s Source[T], value T, line bool) ([]byte, error) {
	if o.Format != Table {
		return encode(o.Format, value, line)
	}
	var b bytes.Buffer
	err := s.Table(&b, value)
	return b.Bytes(), err
}

// clearScreen moves to the first column of the first line and empties the screen (ECMA-48: CUP, ED).
const clearScreen = "\x1b[H\x1b[2J"

// watch prints a first value, and each that follows and is another.
func watch[T any](ctx context.Context, o Out, s Source[T], value T) (T, error) {
	period := o.Period
	if period == 0 {
		period = time.Second
	}
	tick := time.NewTicker(period)
	defer tick.Stop()
	screen := o.Terminal && o.Format == Table
	var last []byte
	for problem := ""; ; {
		text, err := render(o, s, value, true)
		if err != nil {
			return value, err
		}
		now, err := essence(s, value)
		if err != nil {
			return value, err
		}
		if screen {
			now = text // what ages is shown, too
		}
		if last == nil || !bytes.Equal(now, last) {
			if err := write(o.To, separated(o, text, screen, last == nil)); err != nil {
				return value, err
			}
			last = now
		}
		for {
			select {
			case <-ctx.Done():
				return value, nil
			case <-tick.C:
			}
			next, err := s.Get(ctx)
			if err == nil {
				value, problem = next, ""
				break
			}
			if ctx.Err() == nil && err.Error() != problem {
				problem = err.Error()
				fmt.Fprintln(o.Problems, problem)
				last = []byte{} // what comes then is printed, after what is on the screen now
			}
		}
	}
}

// essence is what has to change for a value to be printed anew.
func essence[T any](s Source[T], value T) ([]byte, error) {
	if s.Essence == nil {
		return encode(JSON, value, true)
	}
	return encode(JSON, s.Essence(value), true)
}

// separated is a document with what goes between it and the one before.
func separated(o Out, text []byte, screen, first bool) []byte {
	switch {
	case screen:
		return append([]byte(clearScreen), text...)
	case o.Format == YAML:
		return append([]byte("---\n"), text...)
	case o.Format == Table && !first:
		return append([]byte("\n"), text...)
	}
	return text
}
