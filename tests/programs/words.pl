#!/usr/bin/perl
# Perl's many small scalars: hashes of arrays of strings, closures, a string that grows, regular expressions, sorting,
# weak references, forked children and, if this perl has them, threads, each of which copies the whole interpreter. One
# of the programs of .ci/programs: its output does not depend on the allocator (with PERL_HASH_SEED=0).
use strict;
use warnings;
use Config;
use Digest::MD5 qw(md5_hex);
use List::Util qw(sum shuffle);
use Scalar::Util qw(weaken);

my $state = 2004;

sub pick {    # a generator of our own: the same numbers on every machine
    my ($below) = @_;
    $state = ($state * 1103515245 + 12345) % 2147483648;
    return int($state / 65536) % $below;
}

sub word { return join '', map { chr(97 + pick(26)) } 0 .. pick(10) }

my %index;
for my $line (1 .. 60_000) {
    my $word = word();
    push @{ $index{ substr $word, 0, 3 } }, "$word:$line";
    delete $index{ substr word(), 0, 3 } if $line % 5 == 0;
}
my $digest = md5_hex(join "\n", map { "$_ @{ $index{$_} }" } sort keys %index);
printf "index %d %s\n", scalar keys %index, $digest;

my $text = '';
$text .= sprintf '%05d %s ', $_, 'y' x ($_ % 40) for 1 .. 40_000;
my $matches = () = $text =~ /\b(\d+7) (y{3,9}) /g;
(my $changed = $text) =~ s/(\d+) (y+)/length($2) . reverse($1)/ge;
printf "text %d %d %s\n", length $text, $matches, md5_hex($changed);

my @closures = map { my $n = $_; my @own = (1 .. $n % 20); sub { $n += shift; $n + @own } } 1 .. 30_000;
printf "closures %d\n", sum map { $_->(3) } @closures;
@closures = ();

my @nodes;
for my $i (1 .. 40_000) {
    my $node = { id => $i, children => [], name => "node $i" };
    if (@nodes) {
        my $parent = $nodes[ pick(scalar @nodes) ];
        push @{ $parent->{children} }, $node;
        weaken($node->{parent} = $parent);
    }
    push @nodes, $node;
}
my $root = $nodes[0];
@nodes = ();
my ($count, @stack) = (0, $root);
while (my $node = pop @stack) {
    $count++ if !$node->{parent} || $node->{parent}{id} < $node->{id};
    push @stack, @{ $node->{children} };
}
print "tree $count\n";
undef $root;

my @sorted = sort { $a->[1] <=> $b->[1] || $a->[0] cmp $b->[0] } map { [ word(), pick(1000) ] } 1 .. 40_000;
printf "sorted %s\n", md5_hex(join ',', map { "$_->[0]=$_->[1]" } @sorted);

for my $child (1 .. 4) {
    my $pid = open(my $pipe, '-|') // die "cannot fork: $!";
    if (!$pid) {
        $state += $child;
        my %own = map { ($_ => word() x 3) } 1 .. 10_000;
        $index{$_} = [] for grep { pick(2) } sort keys %index;
        printf "child %d %s %d\n", $child, md5_hex(join ' ', map { $own{$_} } sort keys %own), scalar keys %index;
        exit 0;
    }
    print while <$pipe>;
    close $pipe or die "the child failed: $?";
}

if ($Config{useithreads}) {
    require threads;
    my @threads = map {
        my $seed = $_;
        threads->create(sub {
            $state = $seed;
            my %own;
            $own{ word() }++ for 1 .. 8_000;
            return md5_hex(join ' ', map { "$_$own{$_}" } sort keys %own);
        });
    } 1 .. 4;
    print "thread ", $_->join, "\n" for @threads;
}
