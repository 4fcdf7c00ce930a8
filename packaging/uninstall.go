package packaging

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
)

// Installed is the data directory that Install was told, empty if nothing is installed.
func (c *Config) Installed() (dataDir string, err error) {
	done, err := c.readList()
	if err != nil {
		return "", err
	}
	for _, e := range done.entries {
		if e.sum == isData {
			return e.path, nil
		}
	}
	return "", nil
}

// Uninstall stops the server, has cleanup end its pods and empty the kernel, and removes what Install has written. A config
// file that was changed since stays, unless purge.
func Uninstall(ctx context.Context, c Config, cleanup func() error, purge bool) error {
	done, err := c.readList()
	if err != nil {
		return err
	}
	if c.Live && done.sum(unitPath) != "" {
		if _, err := os.Stat(c.at(unitPath)); err == nil {
			if err := systemctl(ctx, "disable", "--now", unitName); err != nil {
				return fmt.Errorf("stopping the server: %w", err)
			}
		}
	}
	if err := cleanup(); err != nil {
		return fmt.Errorf("removing what the server left in the kernel: %w: mend that, and say `svcplane uninstall` again", err)
	}
	for _, e := range slices.Backward(done.entries) {
		if err := c.remove(e, purge); err != nil {
			return err
		}
	}
	if err := os.Remove(done.file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the list of what was installed: %w", err)
	}
	for _, e := range slices.Backward(done.entries) {
		if e.sum == isDir {
			os.Remove(c.at(e.path)) // what is not empty has something of others
		}
	}
	if !c.Live || done.sum(unitPath) == "" {
		return nil
	}
	return systemctl(ctx, "daemon-reload")
}

func (c *Config) remove(e entry, purge bool) error {
	if e.sum == isDir || e.sum == isData {
		return nil
	}
	at := c.at(e.path)
	if e.path == ConfigPath && !purge {
		now, err := os.ReadFile(at)
		if err == nil && sumOf(now) != e.sum {
			c.say("kept    %s, which was changed (--purge removes it)", at)
			return nil
		}
	}
	err := os.Remove(at)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing what was installed: %w", err)
	}
	c.say("removed %s", at)
	return nil
}
