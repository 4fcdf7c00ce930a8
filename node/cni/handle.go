package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/utils"

	"svcplane/node/runtime/podnet"
	"svcplane/node/runtime/record"
	"svcplane/node/runtime/sandbox"
)

// podLink is what a pod's link is called in the pod.
const podLink = "eth0"

// handle does what a plugin was executed for.
func (s *Server) handle(q question, ns *os.File) (*types100.Result, error) {
	switch q.Command {
	case commandStatus:
		return nil, nil
	case commandGC:
		return nil, s.collect(q)
	case commandAdd, commandCheck, commandDel:
	default:
		return nil, types.NewError(types.ErrInvalidEnvironmentVariables, fmt.Sprintf("CNI_COMMAND %q is not known", q.Command), "")
	}
	if err := utils.ValidateContainerID(q.ContainerID); err != nil {
		return nil, err
	}
	if q.Command != commandDel && ns == nil {
		return nil, types.NewError(types.ErrInvalidNetNS, "there is no network namespace", "")
	}
	s.busy.LockKey(q.ContainerID)
	defer func() { _ = s.busy.UnlockKey(q.ContainerID) }() // it is locked
	switch q.Command {
	case commandAdd:
		return s.add(q, ns)
	case commandCheck:
		return nil, s.check(q, ns)
	}
	if a := s.attached(q.ContainerID); a != nil {
		return nil, s.remove(a)
	}
	return nil, nil
}

// add joins a pod to the network.
func (s *Server) add(q question, ns *os.File) (*types100.Result, error) {
	if q.IfName != podLink {
		return nil, types.NewError(types.ErrInvalidEnvironmentVariables, fmt.Sprintf("CNI_IFNAME %q: the link of svcplane's pods is called %s", q.IfName, podLink), "")
	}
	a := s.attached(q.ContainerID)
	if a == nil {
		var err error
		if a, err = s.admit(q); err != nil {
			return nil, err
		}
	}
	err := s.cfg.Network.Attach(a.key(), ns)
	if err == nil {
		err = a.publish()
	}
	if err != nil {
		return nil, errors.Join(err, s.remove(a))
	}
	return a.result(), nil
}

// admit gives a pod its addresses, and records them.
func (s *Server) admit(q question) (*attachment, error) {
	conf, err := parse(q.Config)
	if err != nil {
		return nil, err
	}
	a := &attachment{ContainerID: q.ContainerID, Name: podName(q), Netns: q.Netns}
	if a.Ports, err = ports(conf.RuntimeConfig.PortMappings); err != nil {
		return nil, err
	}
	if a.IP, a.IP6, err = s.cfg.Network.Take(a.key()); err != nil {
		return nil, err
	}
	if err = s.cfg.Network.Add(a.pod()); err == nil {
		err = record.Write(recordPath(s.cfg.Dir, a.ContainerID), a)
	}
	if err != nil {
		s.cfg.Network.Release(a.key(), a.IP)
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pods[a.ContainerID] = a
	return a, nil
}

// remove takes a pod off the network; if that fails it may be repeated.
func (s *Server) remove(a *attachment) error {
	if err := s.cfg.Network.Detach(a.key()); err != nil {
		return err
	}
	if err := os.Remove(recordPath(s.cfg.Dir, a.ContainerID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the record of pod %s: %w", a.Name, err)
	}
	s.cfg.Network.Release(a.key(), a.IP)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pods, a.ContainerID)
	return nil
}

// check says what of a pod's network is not as ADD made it.
func (s *Server) check(q question, ns *os.File) error {
	a := s.attached(q.ContainerID)
	if a == nil {
		return types.NewError(types.ErrUnknownContainer, fmt.Sprintf("container %s has no network of svcplane's", q.ContainerID), "")
	}
	return sandbox.Network{}.Check(a.key(), ns, a.addrs())
}

// collect removes the pods that the runtime does not know any more.
func (s *Server) collect(q question) error {
	conf := &types.PluginConf{}
	if err := json.Unmarshal(q.Config, conf); err != nil {
		return types.NewError(types.ErrDecodingFailure, "the configuration is no JSON of its form", err.Error())
	}
	known := map[string]bool{}
	for _, a := range conf.ValidAttachments {
		known[a.ContainerID] = true
	}
	var errs []error
	for _, id := range s.ids() {
		if known[id] {
			continue
		}
		s.busy.LockKey(id)
		if a := s.attached(id); a != nil {
			errs = append(errs, s.remove(a))
		}
		errs = append(errs, s.busy.UnlockKey(id))
	}
	return errors.Join(errs...)
}

// podName is what errors call the pod: kubelets tell it in CNI_ARGS.
func podName(q question) string {
	known := map[string]string{}
	for pair := range strings.SplitSeq(q.Args, ";") {
		key, value, _ := strings.Cut(pair, "=")
		known[key] = value
	}
	if name := known["K8S_POD_NAME"]; name != "" {
		return known["K8S_POD_NAMESPACE"] + "/" + name
	}
	return q.ContainerID
}

func ports(mappings []portMapping) ([]podnet.Port, error) {
	var all []podnet.Port
	for _, m := range mappings {
		if m.HostPort == 0 {
			continue
		}
		if m.HostPort < 0 || m.HostPort > 65535 || m.ContainerPort <= 0 || m.ContainerPort > 65535 {
			return nil, types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("port mapping %d to %d: ports are from 1 to 65535", m.HostPort, m.ContainerPort), "")
		}
		host, err := netip.ParseAddr(m.HostIP)
		if err != nil && m.HostIP != "" {
			return nil, types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("hostIP of host port %d: %v", m.HostPort, err), "")
		}
		if host.IsUnspecified() {
			host = netip.Addr{}
		}
		all = append(all, podnet.Port{Protocol: strings.ToUpper(m.Protocol), HostIP: host, HostPort: uint16(m.HostPort), PodPort: uint16(m.ContainerPort)})
	}
	return all, nil
}

// result is what the runtime learns of the pod's network.
func (a *attachment) result() *types100.Result {
	r := &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		Interfaces: []*types100.Interface{{Name: sandbox.LinkName(a.key())}, {Name: podLink, Sandbox: a.Netns}},
	}
	for _, addr := range a.addrs() {
		gateway := sandbox.Gateway
		if addr.Is6() {
			gateway = sandbox.Gateway6
		}
		bits := addr.BitLen()
		r.IPs = append(r.IPs, &types100.IPConfig{
			Interface: types100.Int(1), Gateway: gateway.AsSlice(), Address: net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, bits)},
		})
		r.Routes = append(r.Routes, &types.Route{Dst: net.IPNet{IP: make(net.IP, bits/8), Mask: net.CIDRMask(0, bits)}, GW: gateway.AsSlice()})
	}
	return r
}
