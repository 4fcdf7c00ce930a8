// Package test drives the real binary as a user would: scripts (scripts/*.txtar) start it, apply manifests, look with
// kubectl, curl and dig, end it, and compare the machine with what it was before. It also holds the rules of the
// repository: who may import whom, and that links in the documentation lead somewhere.
//
//	LAN 192.0.2.2 ──eth0──────eth0── 192.0.2.1 node: svcplane server, its pods behind it
//	  │ lan curl ...                   │ node dig ...   kubectl ...   pod deploy/toad curl ...
//	lanserver :5432                    └ $DATA, a data directory of its own
//
// Every script has such a pair of network namespaces for itself (scripts/lab.sh makes and removes them), so scripts run
// side by side. What they may use beyond the commands of testscript:
//
//	[!] server [FLAG...]               start it, wait for the ready line; with !, it has to end by itself with exit code 1 or 2
//	sigterm | kill9                    SIGTERM, which has to end with exit code 0; or SIGKILL
//	lanserver                          the web server outside the cluster
//	registry ARCHIVE NAME              a registry there, at 192.0.2.2:5000, of the user toad with the password hall; its links break
//	[!] node|lan CMD...                run it in that namespace, entered by the command ENTER where that is set
//	[!] pod POD CMD...                 run it in a pod (kubectl exec)
//	[!] kubectl|svcplane ARGS...       the binary, pointed at this script's server
//	exits CODE CMD...                  run it; it has to end with that exit code
//	walkthrough                        apply examples/walkthrough and wait for the pods
//	tlssecret NAME HOST                a Secret with a fresh certificate, also in $WORK/NAME.crt
//	until DURATION REGEX CMD...        repeat until it succeeds and its standard output matches
//	retry DURATION [!] CMD...          repeat until it succeeds (fails)
//	set VAR CMD...                     its standard output as a variable
//	many N PODS WHERE... URL           ask N times over new connections: N answers, from exactly PODS pods
//	watch URL | mark WORD | unwatch    ask without a pause in the background; no answer may be missing
//	snapshot FILE                      everything that could be left behind
//	exec flows serve|ask ...           this test binary as a program: conversations that must not break (flows_test.go)
//
// Invariants:
//   - A script that ends leaves no process, namespace, link or mount; if it does, that is a failure of its own.
//   - Nothing sleeps for a fixed time to make a condition true: conditions are polled with a deadline.
package test
