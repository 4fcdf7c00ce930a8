package printer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// Format is the value of -o.
type Format string

// The formats.
const (
	Table Format = "table" // for people; its columns may change
	JSON  Format = "json"
	YAML  Format = "yaml"
)

// Formats are the values of -o.
var Formats = []string{string(Table), string(JSON), string(YAML)}

func (f *Format) String() string { return string(*f) }

// Set is pflag.Value's.
func (f *Format) Set(text string) error {
	if !slices.Contains(Formats, text) {
		return errors.New("must be table, json or yaml")
	}
	*f = Format(text)
	return nil
}

// Type is pflag.Value's: the word for a value in the help.
func (f *Format) Type() string { return "format" }

// Flags are how a command is to print.
type Flags struct {
	Format Format
	Watch  bool
}

// FlagOutput is the name of the flag for the format.
const FlagOutput = "output"

// Register declares -o.
func (f *Flags) Register(fs *pflag.FlagSet) {
	f.Format = Table
	fs.VarP(&f.Format, FlagOutput, "o", "output format: table, json or yaml")
}

// RegisterWatch declares -o and -w.
func (f *Flags) RegisterWatch(fs *pflag.FlagSet) {
	f.Register(fs)
	fs.BoolVarP(&f.Watch, "watch", "w", false, "print it again whenever it has changed, until Ctrl-C")
}

// encode is a value as a document: JSON on one line or indented, or YAML. A slice that is nil is an empty list.
func encode(f Format, value any, line bool) ([]byte, error) {
	if v := reflect.ValueOf(value); v.Kind() == reflect.Slice && v.IsNil() {
		value = []any{}
	}
	var text []byte
	var err error
	switch {
	case f == YAML:
		text, err = yaml.Marshal(value)
	case line:
		text, err = json.Marshal(value)
	default:
		text, err = json.MarshalIndent(value, "", "  ")
	}
	if err != nil {
		return nil, fmt.Errorf("printing as %s: %w", f, err)
	}
	if f == JSON {
		text = append(text, '\n')
	}
	return text, nil
}

func write(w io.Writer, text []byte) error {
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}
