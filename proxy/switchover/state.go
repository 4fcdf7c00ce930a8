package switchover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// state is what outlives the process, in one file.
type state struct {
	// Chosen is the data plane that a switch has chosen, empty when none has, and Asked what was configured then.
	Chosen string `json:"chosen,omitempty"`
	Asked  string `json:"asked,omitempty"`
	// Reason is why that is not the one that is preferred; empty when somebody asked for it.
	Reason string `json:"reason,omitempty"`
	// Draining is the data plane that is on its way out, and Until when it goes at the latest.
	Draining string    `json:"draining,omitzero"`
	Until    time.Time `json:"until,omitzero"`
}

// readState reads the file; none is no error.
func readState(path string) (state, error) {
	var s state
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return s, fmt.Errorf("reading which data plane was chosen: %w: remove %s and choose again", err, path)
	}
	return s, nil
}

// write puts s into the file, which holds the whole of it or of what was there before.
func (s state) write(path string) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("noting which data plane serves: %w", err)
	}
	fresh, err := os.CreateTemp(filepath.Dir(path), ".proxy-*")
	if err != nil {
		return fmt.Errorf("noting which data plane serves: %w", err)
	}
	_, err = fresh.Write(data)
	err = errors.Join(err, fresh.Sync(), fresh.Close())
	if err == nil {
		err = os.Rename(fresh.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("noting which data plane serves: %w", err), os.Remove(fresh.Name()))
	}
	return nil
}
