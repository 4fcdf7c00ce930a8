package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"svcplane/node/runtime/process"
	"svcplane/node/runtime/sandbox"
)

// The names of the plugins in a configuration, and of their files.
const (
	pluginName   = "svcplane"
	loopbackName = "loopback"
)

// Codes of errors (CNI specification 1.1.0, "Error").
const (
	errNotAvailable uint = 50  // the plugin cannot serve ADD
	errPort         uint = 100 // from here on they are the plugin's own
)

// restartPatience is how long ADD and CHECK wait for a server that is being started.
const restartPatience = 5 * time.Second

// versions are those that containerd from 1.6 on, and CRI-O, speak; loopback is asked for by 0.3.1.
var versions = version.PluginSupports("0.3.1", "0.4.0", "1.0.0", "1.1.0")

// Main is the plugin, if this process is one: a runtime executes it without arguments. Call it before anything else. handled tells
// whether it was, code is then the exit code.
func Main(args []string) (handled bool, code int) {
	if len(args) != 1 || os.Getenv("CNI_COMMAND") == "" {
		return false, 0
	}
	funcs := skel.CNIFuncs{Add: add, Check: check, Del: del, GC: collect, Status: status}
	if filepath.Base(args[0]) == loopbackName {
		funcs = skel.CNIFuncs{Add: addLoopback, Check: nothing, Del: nothing, GC: nothing, Status: nothing}
	}
	if err := skel.PluginMainFuncsWithError(funcs, versions, "CNI plugin svcplane: the network of svcplane's pods, for other container runtimes"); err != nil {
		if err.Print() != nil {
			return true, 2
		}
		return true, 1
	}
	return true, 0
}

// pluginConf is the configuration that files.go writes, with what the runtime adds.
type pluginConf struct {
	types.PluginConf
	Socket        string `json:"socket"`
	RuntimeConfig struct {
		PortMappings []portMapping `json:"portMappings,omitempty"`
	} `json:"runtimeConfig,omitempty"`
}

// portMapping has the form of the capability portMappings.
type portMapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

func parse(raw []byte) (*pluginConf, error) {
	conf := &pluginConf{}
	if err := json.Unmarshal(raw, conf); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "the configuration is no JSON of its form", err.Error())
	}
	if !filepath.IsAbs(conf.Socket) {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("socket %q must be the absolute path of svcplane's socket for CNI", conf.Socket),
			"svcplane writes the configuration itself, as 10-svcplane.conflist")
	}
	return conf, nil
}

func add(args *skel.CmdArgs) error {
	conf, a, err := forward(commandAdd, args, restartPatience)
	if err != nil {
		return err
	}
	if a.Result == nil {
		return types.NewError(types.ErrInternal, "svcplane gave no result", "")
	}
	return types.PrintResult(a.Result, conf.CNIVersion)
}

func check(args *skel.CmdArgs) error {
	_, _, err := forward(commandCheck, args, restartPatience)
	return err
}

// del leaves to the next start of the server what is left, which is an address: the link goes with the namespace.
func del(args *skel.CmdArgs) error {
	_, _, err := forward(commandDel, args, 0)
	var e *types.Error
	if errors.As(err, &e) && e.Code == errNotAvailable {
		return nil
	}
	return err
}

func collect(args *skel.CmdArgs) error {
	_, _, err := forward(commandGC, args, 0)
	return err
}

func status(args *skel.CmdArgs) error {
	_, _, err := forward(commandStatus, args, 0)
	return err
}

// forward asks the server; the error is CNI's, with the code errNotAvailable if nobody listens.
func forward(command string, args *skel.CmdArgs, wait time.Duration) (*pluginConf, answer, error) {
	conf, err := parse(args.StdinData)
	if err != nil {
		return nil, answer{}, err
	}
	q := question{Command: command, ContainerID: args.ContainerID, Netns: args.Netns, IfName: args.IfName, Args: args.Args, Config: args.StdinData}
	var ns *os.File
	if args.Netns != "" && command != commandDel { // DEL comes when the namespace may have gone
		if ns, err = os.Open(args.Netns); err != nil {
			return nil, answer{}, types.NewError(types.ErrInvalidNetNS, "the network namespace can't be opened", err.Error())
		}
		defer ns.Close()
	}
	conn, err := dial(filepath.Dir(conf.Socket))
	for deadline := time.Now().Add(wait); err != nil && time.Now().Before(deadline); conn, err = dial(filepath.Dir(conf.Socket)) {
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		return nil, answer{}, types.NewError(errNotAvailable, err.Error(), "start `svcplane server`: pods get no network without it")
	}
	defer conn.Close()
	a, err := ask(conn, q, ns)
	if err != nil {
		return nil, answer{}, types.NewError(types.ErrTryAgainLater, err.Error(), "")
	}
	if a.Error != nil {
		return nil, answer{}, a.Error
	}
	return conf, a, nil
}

func nothing(*skel.CmdArgs) error { return nil }

// addLoopback is the plugin of that name, which containerd 1.x and CRI-O execute for every pod from the same directory.
func addLoopback(args *skel.CmdArgs) error {
	conf := &types.PluginConf{}
	if err := json.Unmarshal(args.StdinData, conf); err != nil {
		return types.NewError(types.ErrDecodingFailure, "the configuration is no JSON of its form", err.Error())
	}
	if err := process.InNet(args.Netns, sandbox.SetupLoopback); err != nil {
		return types.NewError(types.ErrInternal, err.Error(), "")
	}
	if conf.RawPrevResult == nil {
		return types.PrintResult(&types100.Result{CNIVersion: types100.ImplementedSpecVersion, Interfaces: []*types100.Interface{{Name: "lo", Sandbox: args.Netns}}}, conf.CNIVersion)
	}
	if err := version.ParsePrevResult(conf); err != nil {
		return err
	}
	return types.PrintResult(conf.PrevResult, conf.CNIVersion)
}
