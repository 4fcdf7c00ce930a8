// Package diagnose finds the mistakes that people make in a Service and in its name: a selector that matches no pod, a
// targetPort where nothing listens, a name in the wrong namespace, a word mistyped. Its functions are pure: they get API objects
// and the results of connects and probes, and return sentences.
//
//	Service, pods of its namespace ──┐
//	the last words of their probes ──┼──▶ Evidence.Mistakes ─▶ "nothing listens on 10.244.0.5:8081, ..."
//	TCP connects to its endpoints ───┘
//	a name, the Services that exist ────▶ Name, Key ──▶ "service web is in namespace shop: ask for web.shop"
//	a word, the words that there are ───▶ DidYouMean ─▶ "toad-svc"
//
// Invariants:
//   - A sentence states one cause, and what it says was seen: nothing is guessed from the absence of evidence.
//   - What is in order gives no sentence.
package diagnose
