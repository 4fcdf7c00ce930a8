package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

func nameFile(dir string) string { return filepath.Join(dir, "name") }

// Name is what the node of a directory (Config.Dir) is called: its pods and volumes are bound to that. It is empty where
// none has joined yet, or where the file cannot be read or has no name in it: it is written anew.
func Name(dir string) string {
	text, err := os.ReadFile(nameFile(dir))
	if err != nil {
		return ""
	}
	name := strings.TrimSpace(string(text))
	if len(validation.IsDNS1123Subdomain(name)) > 0 {
		return ""
	}
	return name
}

// keepName writes down what the node is called.
func (n *Node) keepName() error {
	if Name(n.cfg.Dir) == n.cfg.Name {
		return nil
	}
	path := nameFile(n.cfg.Dir)
	if err := os.WriteFile(path+".tmp", []byte(n.cfg.Name+"\n"), 0o644); err != nil {
		return fmt.Errorf("writing down what this node is called: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("writing down what this node is called: %w", err)
	}
	return nil
}
