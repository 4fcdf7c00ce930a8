package podnet

import (
	"errors"
	"io/fs"
	"path/filepath"
	"reflect"

	"k8s.io/klog/v2"

	"svcplane/node/runtime/record"
	"svcplane/node/runtime/sandbox"
)

// kept is what is recorded once per directory.
type kept struct {
	Routing     sandbox.Routing `json:"routing"` // before the first start
	NextAddress uint32          `json:"nextAddress"`
}

// recordFile is the name that the record has had since there is one.
func recordFile(dir string) string { return filepath.Join(dir, "node.json") }

// load reads what is recorded; a record that is gone or broken, as one is that a power failure has left empty, is begun anew.
func load(dir string) (kept, error) {
	var k kept
	err := record.Read(recordFile(dir), &k)
	if errors.Is(err, record.ErrBroken) {
		klog.ErrorS(err, "The record of the pods' network is begun anew: how the machine forwarded packets before the first start is not known any more")
		return kept{}, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return k, err
}

func (k kept) save(dir string) error { return record.Write(recordFile(dir), k) }

// enableForwarding records the machine's own setting before it is changed for the first time.
func (n *Network) enableForwarding(k kept) error {
	now, err := sandbox.ReadRouting(n.cfg.PodCIDR6.IsValid())
	if err != nil {
		return err
	}
	before := k.Routing
	if before.IPv4 == "" {
		before = now
	}
	if before.IPv6 == "" { // the first start with two families
		before.IPv6, before.Advertised = now.IPv6, now.Advertised
	}
	if !reflect.DeepEqual(before, k.Routing) {
		k.Routing = before
		if err := k.save(n.cfg.Dir); err != nil {
			return err
		}
	}
	return now.Enable()
}

// saveNext keeps where the next address is looked for.
func (n *Network) saveNext() error {
	k, err := load(n.cfg.Dir)
	if err != nil {
		return err
	}
	k.NextAddress = n.pool.Next()
	return k.save(n.cfg.Dir)
}

// Cleanup removes rules, and links, also those whose records are lost, and gives the machine back its settings of before the first start.
func Cleanup(dir string) error {
	return errors.Join(sandbox.RemoveRules(), sandbox.Network{}.Prune(func(string) bool { return false }), restore(dir))
}

func restore(dir string) error {
	k, err := load(dir)
	if err != nil || k.Routing.IPv4 == "" {
		return err
	}
	if err := k.Routing.Restore(); err != nil {
		return err
	}
	k.Routing = sandbox.Routing{}
	return k.save(dir)
}
