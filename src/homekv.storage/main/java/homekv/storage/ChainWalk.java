package homekv.storage;

import java.util.Iterator;
import java.util.Map;
import java.util.concurrent.ConcurrentNavigableMap;

/**
 * Walks the chains of a range in the order of their keys, up or down, while the writer goes on.
 *
 * <p>Up, it follows the nodes of the skip list; down, the links that chains keep to the one before them, since a skip
 * list can only be walked backwards by searching anew for each key. Either way a step costs no search, and no chain
 * is missed that the map held for all of the walk.
 */
final class ChainWalk {
    private final Bytes from;

    /** Null when walking down. */
    private final Iterator<VersionChain> ascending;

    private VersionChain before;
    private int steps;

    ChainWalk(ConcurrentNavigableMap<Bytes, VersionChain> chains, Range range, boolean descending) {
        from = range.from();
        if (range.isEmpty()) {
            ascending = null;
        } else if (descending) {
            ascending = null;
            Map.Entry<Bytes, VersionChain> last =
                    range.to() == null ? chains.lastEntry() : chains.lowerEntry(range.to());
            before = last == null ? null : last.getValue();
        } else {
            ascending = (range.to() == null
                            ? chains.tailMap(range.from(), true)
                            : chains.subMap(range.from(), true, range.to(), false))
                    .values()
                    .iterator();
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
        if (chain == null || chain.key.compareTo(from) < 0) {
            before = null;
            return null;
        }
        before = chain.before;
        return chain;
    }
}
