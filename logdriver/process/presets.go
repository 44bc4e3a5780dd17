package process

import "bytes"

// presets returns what redact= names.
func presets() map[string][]finder {
	keys := []finder{findNamed(keyNames, '='), findNamed(keyNames, ':')}
	for i := range keyForms {
		keys = append(keys, keyForms[i].find)
	}
	return map[string][]finder{
		"bearer":        {findBearer, findJWT, findNamed(tokenNames, '='), findNamed(tokenNames, ':')},
		"email":         {findEmail("@"), findEmail("%40")},
		"cloud-keys":    keys,
		"url-passwords": {findURLPassword("://"), findURLPassword(`:\/\/`)},
	}
}

// finder returns where in a line the first secret is that begins at or behind
// from; start < 0: nowhere. It goes over the line once, looks at few bytes behind
// what it finds, and finds nothing that goes beyond a newline.
type finder = func(line []byte, from int) (start, end int)

// findBearer: `Bearer TOKEN`, in any case (RFC 6750 section 2.1), and Basic.
func findBearer(line []byte, from int) (start, end int) {
	for i := from; i < len(line); {
		sp := bytes.IndexByte(line[i:], ' ')
		if sp < 0 {
			break
		}
		i += sp
		if hasFoldSuffix(line[:i], "bearer") || hasFoldSuffix(line[:i], "basic") {
			lo := i
			for lo < len(line) && line[lo] == ' ' {
				lo++
			}
			hi := spanOf(line, lo, isToken)
			if hi-lo >= 8 && lo >= from {
				return lo, hi
			}
		}
		i++
	}
	return -1, -1
}

// findJWT: three parts of base64url, the first an object (RFC 7519 section 3).
func findJWT(line []byte, from int) (start, end int) {
	for i := from; ; {
		at := bytes.Index(line[i:], []byte("eyJ"))
		if at < 0 {
			return -1, -1
		}
		lo := i + at
		hi := spanOf(line, lo, isBase64URL)
		head, rest, _ := bytes.Cut(line[lo:hi], []byte("."))
		body, sign, _ := bytes.Cut(rest, []byte("."))
		if len(head) >= 10 && len(body) >= 4 && len(sign) >= 10 {
			return lo, hi
		}
		i = max(hi, lo+3)
	}
}

// findEmail: the sign is an @, which URLs write otherwise.
func findEmail(sign string) finder {
	return func(line []byte, from int) (start, end int) {
		for i := from; ; {
			n := bytes.Index(line[i:], []byte(sign))
			if n < 0 {
				return -1, -1
			}
			at, behind := i+n, i+n+len(sign)
			hi := spanOf(line, behind, isHost)
			for hi > behind && (line[hi-1] == '.' || line[hi-1] == '-') {
				hi--
			}
			dot := bytes.LastIndexByte(line[behind:hi], '.')
			if dot > 0 && hi-(behind+dot+1) >= 2 && !isDigit(line[hi-1]) {
				lo := at // looked for only where there is a host: no byte is gone over twice
				for lo > from && isLocal(line[lo-1]) {
					lo--
				}
				if lo < at {
					return lo, hi
				}
			}
			i = behind
		}
	}
}

// keyForm is an access key that can be told by how it begins.
type keyForm struct {
	begin    []byte
	within   func(byte) bool
	min, max int // bytes behind begin
}

var keyForms = []keyForm{
	{[]byte("AKIA"), isUpperDigit, 16, 16},
	{[]byte("ASIA"), isUpperDigit, 16, 16},
	{[]byte("AIza"), isKey, 35, 35},
	{[]byte("ya29."), isKey, 20, 4096},
	{[]byte("GOCSPX-"), isKey, 20, 64},
	{[]byte("dop_v1_"), isKey, 64, 64},
}

// find: access keys of AWS, Google and DigitalOcean.
func (k *keyForm) find(line []byte, from int) (start, end int) {
	for {
		n := bytes.Index(line[from:], k.begin)
		if n < 0 {
			return -1, -1
		}
		lo := from + n
		first := lo + len(k.begin)
		hi := spanOf(line, first, k.within)
		if within := lo > 0 && isKey(line[lo-1]); !within && hi-first >= k.min && hi-first <= k.max {
			return lo, hi
		}
		from = max(first, hi)
	}
}

// name is one of a secret, whose value is told by it.
type name struct {
	text string
	min  int // bytes of the value
}

// Names are found in any case, and at the end of longer ones.
var (
	keyNames = []name{
		{"secret_access_key", 8}, {"secretaccesskey", 8}, {"secret-access-key", 8}, {"session_token", 40}, {"sessiontoken", 40}, {"security-token", 40},
		{"accountkey", 20}, {"account_key", 20}, {"sharedaccesskey", 20}, {"shared_access_key", 20},
	}
	tokenNames = []name{
		{"authorization", 16}, {"bearer", 8}, {"access_token", 8}, {"accesstoken", 8}, {"refresh_token", 8}, {"refreshtoken", 8}, {"id_token", 8},
	}
)

// schemes of the header Authorization (RFC 9110 section 11.6.2) have a secret behind them.
var schemes = []string{"basic", "bearer", "digest", "negotiate", "token", "apikey", "api-key", "aws4-hmac-sha256"}

// findNamed: NAME=VALUE, NAME: VALUE, "NAME": "VALUE", NAME => VALUE, also where
// the quotes are escaped.
func findNamed(names []name, sign byte) finder {
	return func(line []byte, from int) (start, end int) {
		for i := from; ; i++ {
			n := bytes.IndexByte(line[i:], sign)
			if n < 0 {
				return -1, -1
			}
			i += n
			if n = nameBefore(line[:i], names); n < 0 {
				continue
			}
			need, lo := names[n].min, valueAt(line, i+1)
			hi := spanOf(line, lo, isToken)
			if isScheme(line[lo:hi]) && hi < len(line) && line[hi] == ' ' {
				need, lo = 1, spanOf(line, hi, func(c byte) bool { return c == ' ' })
				hi = spanOf(line, lo, isToken)
			}
			if lo >= from && hi-lo >= need {
				return lo, hi
			}
		}
	}
}

// nameBefore returns which name a line ends in, quotes and spaces aside, -1 for none.
func nameBefore(line []byte, names []name) int {
	end := len(line)
	for end > 0 && len(line)-end < maxAround && isAround(line[end-1]) {
		end--
	}
	if end == 0 || line[end-1]|0x20 != 'y' && line[end-1]|0x20 != 'n' && line[end-1]|0x20 != 'r' {
		return -1 // all end so
	}
	for i := range names {
		if hasFoldSuffix(line[:end], names[i].text) {
			return i
		}
	}
	return -1
}

// maxAround bounds the spaces and quotes beside the sign between a name and its value.
const maxAround = 8

func isAround(c byte) bool { return c == ' ' || c == '\t' || c == '"' || c == '\'' || c == '\\' }

// valueAt returns where a value begins whose sign ends at at.
func valueAt(line []byte, at int) int {
	most := min(len(line), at+maxAround)
	for at < most && (isAround(line[at]) || line[at] == '>') {
		at++
	}
	return at
}

func isScheme(word []byte) bool {
	for _, s := range schemes {
		if len(word) == len(s) && hasFoldSuffix(word, s) {
			return true
		}
	}
	return false
}

// findURLPassword: what stands between the first colon and the last @ of an
// authority (RFC 3986 section 3.2.1). A password may hold what ought to be escaped
// in it: where what is behind the colon is no port, it goes on up to the last @
// before a space or a quote.
func findURLPassword(sign string) finder {
	return func(line []byte, from int) (start, end int) {
		for i := from; ; {
			n := bytes.Index(line[i:], []byte(sign))
			if n < 0 {
				return -1, -1
			}
			lo := i + n + len(sign)
			hi := spanOf(line, lo, isAuthority)
			if colon := bytes.IndexByte(line[lo:hi], ':'); colon >= 0 {
				at := bytes.LastIndexByte(line[lo:hi], '@')
				if at < 0 && spanOf(line, lo+colon+1, isDigit) < hi {
					hi = spanOf(line, hi, isSolid)
					at = bytes.LastIndexByte(line[lo:hi], '@')
				}
				if at > colon+1 {
					return lo + colon + 1, lo + at
				}
			}
			i = max(lo, hi)
		}
	}
}

func hasFoldSuffix(b []byte, suffix string) bool {
	return len(b) >= len(suffix) && bytes.EqualFold(b[len(b)-len(suffix):], []byte(suffix))
}

func spanOf(line []byte, from int, in func(byte) bool) int {
	for from < len(line) && in(line[from]) {
		from++
	}
	return from
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isUpperDigit(c byte) bool { return isDigit(c) || 'A' <= c && c <= 'Z' }

func isAlnum(c byte) bool { return isUpperDigit(c) || 'a' <= c && c <= 'z' }

func isKey(c byte) bool { return isAlnum(c) || c == '-' || c == '_' }

func isBase64URL(c byte) bool { return isKey(c) || c == '.' || c == '=' }

func isToken(c byte) bool { return isBase64URL(c) || c == '~' || c == '+' || c == '/' }

func isLocal(c byte) bool { return isKey(c) || c == '.' || c == '%' || c == '+' }

func isHost(c byte) bool { return isAlnum(c) || c == '.' || c == '-' }

// isSolid holds for what ends no URL in a text.
func isSolid(c byte) bool {
	return c > ' ' && c != 0x7f && c != '"' && c != '\'' && c != '<' && c != '>' && c != '\\'
}

func isAuthority(c byte) bool { return isSolid(c) && c != '/' && c != '?' && c != '#' }
