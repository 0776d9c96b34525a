# Installs kmem like any library: shared and static library, headers, kmem.pc, a CMake package, the command with its
# manual pages and completions. docs/install.md says what goes where.
#
#   make                                      builds it, by cargo
#   make install PREFIX=/usr/local DESTDIR=   installs it; what was not built is built first
#   make uninstall PREFIX=/usr/local          removes what was installed there
#   make deb                                  makes a package for Debian and its kin in target/release
#
# Root needs no cargo: `make && sudo make install`.

PREFIX ?= /usr/local
DESTDIR ?=
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DATADIR ?= $(PREFIX)/share
MANDIR ?= $(DATADIR)/man
CARGO ?= cargo
# Where the built files are.
OUT ?= $(or $(CARGO_TARGET_DIR),target)/release
# The command that writes manual pages and completions: another one than the installed one if that is for another machine.
KMEM ?= $(OUT)/kmem
export PREFIX DESTDIR BINDIR LIBDIR INCLUDEDIR DATADIR MANDIR OUT KMEM

BUILD = $(CARGO) build --release --locked -p kmem-malloc -p kmem-cli

all:
	$(BUILD)

install: $(OUT)/kmem
	@sh packaging/install

uninstall:
	@sh packaging/install --remove

deb: all
	@bash packaging/deb

$(OUT)/kmem:
	$(BUILD)

.PHONY: all install uninstall deb
