package homekv.storage;

import java.util.Arrays;
import java.util.Iterator;

/**
 * Walks the chains of a range in the order of their keys, up or down, while the writer goes on.
 *
 * <p>Up, it follows the nodes of the skip list; down, the links that chains keep to the one before them, since a skip
 * list can only be walked backwards by searching anew for each key. Either way a step costs no search, and no chain
 * is missed that the map held for all of the walk.
 */
final class ChainWalk {
    private final byte[] from;

    /** Null when walking down. */
    private final Iterator<VersionChain> ascending;

    private VersionChain before;
    private int steps;

    ChainWalk(Chains chains, Range range, boolean descending) {
        from = range.from().unsafeArray();
        byte[] to = range.to() == null ? null : range.to().unsafeArray();
        if (range.isEmpty()) {
            ascending = null;
        } else if (descending) {
            ascending = null;
            before = chains.lastBelow(to);
        } else {
            ascending = chains.up(from, to);
        }
    }

    /** How many chains have been asked for. */
    int steps() {
        return steps & Integer.MAX_VALUE;
    }

    /** The next chain, which may hold nothing for a given revision, or null at the end. */
    VersionChain next() {
        steps++;
        if (ascending != null) {
            return ascending.hasNext() ? ascending.next() : null;
        }
        VersionChain chain = before;
        if (chain == null || Arrays.compareUnsigned(chain.key, from) < 0) {
            before = null;
            return null;
        }
        before = chain.before;
        return chain;
    }
}
