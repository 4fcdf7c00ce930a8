// Package accesstest is an API that reviews tokens and rights, for tests: clients made by fake.NewClientset cannot do that.
//
//	Guard ──HTTP──▶ API{Token, User, May} ──▶ TokenReview, SubjectAccessReview
//
// Invariants:
//   - Whoever has no right in May has none.
package accesstest
