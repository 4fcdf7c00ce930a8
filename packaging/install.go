package packaging

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Config says what to put where.
type Config struct {
	Root       string // of the machine's tree; "/" is this machine's
	Binary     string // the program that is copied
	Args       []string
	DataDir    string
	Completion []byte // for bash
	Live       bool   // systemd runs on this machine and is told
	Now        bool   // the server is started, too
	Out        io.Writer
}

// Running says whether systemd is what runs this machine (sd_booted(3)).
func Running() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

func (c *Config) at(path string) string { return filepath.Join(c.Root, path) }

func (c *Config) say(format string, args ...any) { fmt.Fprintf(c.Out, format+"\n", args...) }

// Install puts everything in place, tells systemd, and starts the server, if asked.
func Install(ctx context.Context, c Config) error {
	for _, path := range distributionUnits {
		if _, err := os.Stat(c.at(path)); err == nil {
			return fmt.Errorf("a package of the distribution has installed svcplane (%s): use that one (systemctl enable --now svcplane), "+
				"or remove it first (apt-get remove svcplane)", c.at(path))
		}
	}
	binary, err := os.ReadFile(c.Binary)
	if err != nil {
		return fmt.Errorf("reading the program that is to be installed: %w", err)
	}
	done, err := c.readList()
	if err != nil {
		return err
	}
	files := c.plan(binary)
	for _, f := range files {
		if err := c.mayReplace(f, done); err != nil {
			return err
		}
	}
	if err := c.makeDirs(filepath.Dir(listPath), done); err != nil {
		return err
	}
	if err := done.put(entry{isData, c.DataDir}); err != nil {
		return err
	}
	changed := false
	for _, f := range files {
		wrote, err := c.put(f, done)
		if err != nil {
			return err
		}
		changed = changed || wrote
	}
	if !c.Live {
		return nil
	}
	return c.tell(ctx, changed)
}

// tell has systemd know of the unit.
func (c *Config) tell(ctx context.Context, changed bool) error {
	if err := systemctl(ctx, "daemon-reload"); err != nil {
		return err
	}
	if err := systemctl(ctx, "enable", unitName); err != nil {
		return err
	}
	if !c.Now {
		c.say("enabled %s: it starts with the machine, or now by `systemctl start svcplane`", unitName)
		return nil
	}
	_ = systemctl(ctx, "reset-failed", unitName) // which has failed too often is not started else
	verb := "start"
	if changed {
		verb = "restart" // pods and Services go on meanwhile
	}
	if err := systemctl(ctx, verb, unitName); err != nil {
		return fmt.Errorf("%w: `journalctl -u svcplane` says why", err)
	}
	c.say("%s serves: `svcplane status`", unitName)
	return nil
}

// mayReplace refuses a unit that is there and not ours: what somebody has written there would be lost.
func (c *Config) mayReplace(f file, done *list) error {
	if f.path != unitPath {
		return nil
	}
	old, err := os.ReadFile(c.at(f.path))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the unit that is there: %w", err)
	}
	if bytes.Equal(old, f.contents) || sumOf(old) == done.sum(f.path) {
		return nil
	}
	return fmt.Errorf("%[1]s was written or changed by hand: put what you need into %[1]s.d/override.conf (systemctl edit svcplane), "+
		"remove the file, and install again", c.at(f.path))
}

// put brings one file to what it should be; wrote is false if it was.
func (c *Config) put(f file, done *list) (wrote bool, err error) {
	at := c.at(f.path)
	if f.link != "" {
		if there, err := os.Readlink(at); err == nil && there == f.link {
			return false, nil
		}
	} else if old, err := os.ReadFile(at); err == nil && (f.theirs || bytes.Equal(old, f.contents)) {
		if done.sum(f.path) == "" {
			c.say("kept  %s", at)
		}
		return false, nil
	}
	if err := c.makeDirs(filepath.Dir(f.path), done); err != nil {
		return false, err
	}
	c.say("wrote %s", at)
	if f.link != "" {
		if err := done.put(entry{isLink, f.path}); err != nil {
			return false, err
		}
		if err := os.Symlink(f.link, at); err != nil {
			return false, fmt.Errorf("enabling the unit: %w", err)
		}
		return true, nil
	}
	if err := done.put(entry{sumOf(f.contents), f.path}); err != nil {
		return false, err
	}
	return true, writeFile(at, f.contents, f.mode)
}

// makeDirs makes a directory with those above it, and notes which it made.
func (c *Config) makeDirs(path string, done *list) error {
	if _, err := os.Stat(c.at(path)); err == nil {
		return nil
	}
	if path == "/" {
		if err := os.MkdirAll(c.Root, 0o755); err != nil {
			return fmt.Errorf("making the root: %w", err)
		}
		return nil
	}
	if err := c.makeDirs(filepath.Dir(path), done); err != nil {
		return err
	}
	if err := os.Mkdir(c.at(path), 0o755); err != nil {
		return fmt.Errorf("making a directory: %w", err)
	}
	if _, err := os.Stat(filepath.Dir(done.file)); err != nil {
		done.entries = append(done.entries, entry{isDir, path}) // written with the first thing that is put there
		return nil
	}
	return done.put(entry{isDir, path})
}

func systemctl(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
