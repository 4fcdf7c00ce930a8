package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"svcplane/node/runtime/sandbox"
)

// ConfDir is where the configuration is that a runtime's conf_dir has to name, and BinDir where the plugins are that its bin_dir does.
func ConfDir(dir string) string { return filepath.Join(dir, "net.d") }
func BinDir(dir string) string  { return filepath.Join(dir, "bin") }

const confName = "10-svcplane.conflist"

// configuration is the network as runtimes read it (CNI specification, "Network configuration format"): 1.0.0 is what containerd
// 1.6 knows.
func configuration(dir string) ([]byte, error) {
	return json.MarshalIndent(map[string]any{
		"cniVersion": "1.0.0",
		"name":       "svcplane",
		"plugins": []any{map[string]any{
			"type": pluginName, "socket": filepath.Join(dir, socketName), "capabilities": map[string]bool{"portMappings": true},
		}},
	}, "", "  ")
}

// writeFiles makes what the runtime's configuration points to, unless it is there: runtimes read it again when it changes.
func writeFiles(cfg Config) error {
	for _, d := range []string{ConfDir(cfg.Dir), BinDir(cfg.Dir)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("make the directories of CNI: %w", err)
		}
	}
	for _, name := range []string{pluginName, loopbackName} {
		if err := link(cfg.Executable, filepath.Join(BinDir(cfg.Dir), name)); err != nil {
			return err
		}
	}
	conf, err := configuration(cfg.Dir)
	if err != nil {
		return fmt.Errorf("write the configuration of CNI: %w", err)
	}
	path := filepath.Join(ConfDir(cfg.Dir), confName)
	if have, err := os.ReadFile(path); err == nil && string(have) == string(conf) {
		return nil
	}
	next := filepath.Join(ConfDir(cfg.Dir), ".new") // without an ending that runtimes look for
	if err := os.WriteFile(next, conf, 0o600); err != nil {
		return fmt.Errorf("write the configuration of CNI: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("write the configuration of CNI: %w", err)
	}
	return nil
}

// link has path lead to the binary, also after it was moved.
func link(to, path string) error {
	if have, err := os.Readlink(path); err == nil && have == to {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("link the CNI plugin: %w", err)
	}
	if err := os.Symlink(to, path); err != nil {
		return fmt.Errorf("link the CNI plugin: %w", err)
	}
	return nil
}

// Cleanup takes what pods had of the network off the machine, and removes dir. Rules and links are podnet's to remove.
func Cleanup(dir string) error {
	all, err := load(dir)
	errs := []error{err}
	for _, a := range all {
		errs = append(errs, sandbox.Unpublish(sandbox.NetnsName(a.key())))
	}
	errs = append(errs, os.RemoveAll(dir))
	return errors.Join(errs...)
}
