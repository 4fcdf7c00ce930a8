package annotations

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// harmlessDirectives of nginx may stand in a snippet that is ignored: they change answers, times and sizes. A snippet with
// any other directive closes, whether it is one that restricts (deny, allow, auth_request, return, limit_req, satisfy, Lua) or
// one that nobody here has heard of. if and location are judged by what is in them.
var harmlessDirectives = []string{
	"access_log", "add_header", "add_trailer", "aio", "brotli", "brotli_comp_level", "brotli_types", "charset", "chunked_transfer_encoding",
	"client_body_buffer_size", "client_body_temp_path", "client_body_timeout", "client_header_buffer_size", "client_header_timeout",
	"default_type", "directio", "error_log", "etag", "expires", "grpc_read_timeout", "grpc_send_timeout", "gunzip", "gzip",
	"gzip_buffers", "gzip_comp_level", "gzip_disable", "gzip_http_version", "gzip_min_length", "gzip_proxied", "gzip_static",
	"gzip_types", "gzip_vary", "http2_push", "http2_push_preload", "if", "if_modified_since", "keepalive_requests",
	"keepalive_timeout", "large_client_header_buffers", "lingering_close", "lingering_time", "lingering_timeout", "location",
	"log_not_found", "log_subrequest", "more_clear_headers", "more_set_headers", "opentelemetry", "opentracing",
	"output_buffers", "postpone_output", "proxy_buffer_size", "proxy_buffering", "proxy_buffers", "proxy_busy_buffers_size",
	"proxy_connect_timeout", "proxy_cookie_domain", "proxy_cookie_flags", "proxy_cookie_path", "proxy_hide_header",
	"proxy_http_version", "proxy_ignore_client_abort", "proxy_max_temp_file_size", "proxy_next_upstream",
	"proxy_next_upstream_timeout", "proxy_next_upstream_tries", "proxy_pass_header", "proxy_read_timeout", "proxy_redirect",
	"proxy_request_buffering", "proxy_send_timeout", "proxy_socket_keepalive", "proxy_ssl_name", "proxy_ssl_protocols",
	"proxy_ssl_server_name", "proxy_ssl_session_reuse", "send_timeout", "sendfile", "server_tokens", "set", "sub_filter",
	"sub_filter_last_modified", "sub_filter_once", "sub_filter_types", "tcp_nodelay", "tcp_nopush", "types_hash_max_size",
	"underscores_in_headers",
}

// harmlessRequestHeaders are those that endpoints get from us anyway, or that say nothing about who asks.
var harmlessRequestHeaders = []string{
	"accept-encoding", "cache-control", "connection", "host", "l5d-dst-override", "pragma", "referrer-policy", "upgrade",
	"x-b3-traceid", "x-b3-spanid", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-forwarded-scheme",
	"x-forwarded-prefix", "x-frame-options", "x-original-forwarded-for", "x-original-uri", "x-real-ip", "x-request-id",
	"x-request-start", "x-scheme",
}

// withSlash is the rewrite that only adds the slash at the end of one path.
var withSlash = regexp.MustCompile(`^rewrite \^\((/[\w./-]*)\)\$ \$1/ (redirect|permanent)$`)

// snippet judges configuration of nginx by its directives.
func snippet() judge {
	return judge{"each directive is known to be harmless", func(v value) (bool, string) { return restrictingDirective(v.text) }}
}

func restrictingDirective(text string) (bool, string) {
	for _, words := range directives(text) {
		name := words[0]
		switch {
		case slices.Contains(harmlessDirectives, name):
		case name == "proxy_set_header" && len(words) > 1 && slices.Contains(harmlessRequestHeaders, strings.ToLower(words[1])):
		case name == "proxy_set_header", name == "more_set_input_headers", name == "more_clear_input_headers":
			return true, fmt.Sprintf("its %s sets what endpoints may go by: write it as %srequest-headers", strings.Join(words[:min(2, len(words))], " "), OwnPrefix)
		case name == "rewrite" && withSlash.MatchString(strings.Join(words, " ")):
		default:
			return true, fmt.Sprintf("its directive %q may restrict access", name)
		}
	}
	return false, ""
}

// directives splits configuration of nginx into statements, those inside of blocks included. What it cannot read, such as a
// quote that never ends, becomes part of a word, which is then no harmless directive.
func directives(text string) [][]string {
	var all [][]string
	var words []string
	var word strings.Builder
	inWord, quote := false, byte(0)
	endWord := func() {
		if inWord {
			words = append(words, word.String())
			word.Reset()
			inWord = false
		}
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0, c == '\\':
			word.WriteByte(c)
			inWord = true
			if c == '\\' && i+1 < len(text) {
				i++
				word.WriteByte(text[i])
			}
		case c == '$' && i+1 < len(text) && text[i+1] == '{':
			end := strings.IndexByte(text[i:]+"}", '}')
			word.WriteString(text[i:min(i+end+1, len(text))])
			inWord = true
			i += end
		case (c == '"' || c == '\'') && !inWord:
			quote, inWord = c, true
		case c == '#' && !inWord:
			for i+1 < len(text) && text[i+1] != '\n' {
				i++
			}
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			endWord()
		case c == ';' || c == '{' || c == '}':
			endWord()
			if len(words) > 0 {
				all, words = append(all, words), nil
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if endWord(); len(words) > 0 {
		all = append(all, words)
	}
	return all
}

// otherConfiguration judges text that is not nginx's: whatever is not a comment may restrict.
func otherConfiguration() judge {
	return plain("nothing but comments", func(text string) bool {
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				return true
			}
		}
		return false
	})
}
