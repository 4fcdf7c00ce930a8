# What scripts/deb.sh and scripts/dist.sh share; to be sourced. Packages are the same octets wherever they are made from the same
# binary: files in order, of owner 0, of the time of the commit.
umask 022
export LC_ALL=C TZ=UTC
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}

# documents BINARY DIR: what people read of it, into DIR: man/svcplane*.1, completion, licenses.
documents() {
	mkdir -p "$2"
	"$1" man "$2/man"
	"$1" completion bash >"$2/completion"
	scripts/licenses.sh "$1" >"$2/licenses"
}

# age DIR: every file of a tree gets the time of the commit.
age() { find "$1" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +; }
