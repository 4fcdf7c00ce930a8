package node

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"svcplane/node/names"
)

// resolvConf is the file that the containers of a pod see as /etc/resolv.conf.
func (n *Node) resolvConf(pod *corev1.Pod) string {
	return filepath.Join(n.podDir(pod), "etc", "resolv.conf")
}

// followDNS brings resolv.conf of a pod that an earlier run started up to date: the cluster's DNS may have another address
// or domain since (--dns-ip, --cluster-domain), and nobody answers at the old one. Only what goes by the cluster's DNS is
// written, since the host's resolver is read once, when a pod starts, as the kubelet does it.
func (n *Node) followDNS(pod *corev1.Pod) {
	if !names.ByCluster(pod, n.cfg.DNSAddrs) {
		return
	}
	resolver, _ := names.DNS(pod, n.cfg.DNSAddrs, n.cfg.Domain, n.hostResolver())
	path := n.resolvConf(pod)
	have, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return // none of its containers has been started
	}
	want := resolver.File()
	if err == nil && !bytes.Equal(have, want) {
		err = overwrite(path, want)
	}
	if err != nil {
		klog.ErrorS(err, "A pod may go on asking a name server that is gone: start it again", "pod", podText(pod))
	}
}

// overwrite keeps the file, which is mounted into containers, and is never empty for those who read it meanwhile.
func overwrite(path string, text []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("opening the pod's resolv.conf: %w", err)
	}
	defer file.Close()
	if _, err := file.WriteAt(text, 0); err != nil {
		return fmt.Errorf("writing the pod's resolv.conf: %w", err)
	}
	if err := file.Truncate(int64(len(text))); err != nil {
		return fmt.Errorf("writing the pod's resolv.conf: %w", err)
	}
	return nil
}
