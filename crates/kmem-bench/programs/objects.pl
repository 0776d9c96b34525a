# Short-lived hashes, arrays, strings and references; prints a number by which the result can be checked.
use strict;
use warnings;

sub tree {
    my ($depth, $key) = @_;
    return undef unless $depth;
    return { key => $key, left => tree($depth - 1, 2 * $key), right => tree($depth - 1, 2 * $key + 1) };
}

sub count {
    my ($node) = @_;
    return $node ? 1 + count($node->{left}) + count($node->{right}) : 0;
}

sub words {
    my ($n) = @_;
    my (%counts, $total);
    push @{$counts{"word number " . ($_ * 7919 % 5003)}}, $_ for 0 .. $n - 1;
    $total += @$_ for values %counts;
    return $total;
}

my $total = 0;
for (1 .. $ARGV[0]) {
    $total += count(tree(12, 1)) + words(30000);
    $total += length join ",", map { "item $_" } 1 .. 20000;
}
print "$total\n";
