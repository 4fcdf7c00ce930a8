// Command dns is the workshop of `make bench-dns`, which bench.sh conducts: it fills a cluster, serves it with the
// package dns alone (so that one process is compared with one process), plays the rest of the world, asks and checks.
//
//	bench.sh ──▶ svcplane server (the API) ◀── dns fill, churn
//	                 ▲            ▲
//	            dns serve      coredns ──▶ dns world
//	                 ▲            ▲
//	                 └─ dnsperf, dns probe, dns first, dns diff
//
// What is measured: both servers follow the same API server, on the same machine, one after the other, with the
// same files of questions; every figure is the median of interleaved rounds.
package main
