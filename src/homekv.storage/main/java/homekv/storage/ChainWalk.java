package homekv.storage;

import java.util.Arrays;
import java.util.Iterator;

/**
 * Walks the chains of a range in the order of their keys, up or down, while the writer goes on.
 *
 * <p>Up, it follows the nodes of the skip list; down, the links that chains keep to the one before them, since a skip
 * list can only be walked backwards by searching anew for each key. Either way a step costs no search, and no chain
 * is missed that the map held for all of the walk. What is newest of a chain is looked up in the table.
 */
final class ChainWalk {
    /** How many chains are passed at once: what the table has of them is fetched from memory at the same time. */
    private static final int MOST_AHEAD = 16;

    /** After so many times, a reader lets other virtual threads have their turn, which nobody else does for it. */
    private static final int LOOKS_BEFORE_YIELD = 32;

    private final Chains chains;
    private final byte[] from;

    /** Null when walking down. */
    private final Iterator<VersionChain> ascending;

    private VersionChain before;

    /**
     * Chains that have been passed and have yet to be looked at. Not what was found of them: a reader that goes on much later
     * would keep values that nobody accounts for.
     */
    private VersionChain[] ahead = {};

    private int aheadCount;
    private int looked;
    private int looks;

    /** Means nothing; see {@link ChainTable#fetch}. */
    private int fetched;

    ChainWalk(Chains chains, Range range, boolean descending) {
        this.chains = chains;
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

    /** The next chain, which may hold nothing for a given revision, or null at the end. */
    VersionChain next() {
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

    /**
     * What the next chain with anything for a revision reads there, a tombstone perhaps, or null at the end; for readers. The
     * same revision each time; see {@link Chains#at}.
     */
    Version next(long revision) {
        while (looked < aheadCount || lookAhead()) {
            VersionChain chain = ahead[looked];
            ahead[looked++] = null;
            Version version = chains.at(chain, revision);
            if (version != null) {
                return version;
            }
        }
        return null;
    }

    private boolean lookAhead() {
        if (++looks % LOOKS_BEFORE_YIELD == 0) {
            Thread.yield();
        }
        if (ahead.length < MOST_AHEAD) {
            ahead = new VersionChain[Math.max(4, 2 * ahead.length)]; // A short walk need not look far ahead.
        }
        looked = 0;
        aheadCount = 0;
        for (VersionChain chain; aheadCount < ahead.length && (chain = next()) != null; ) {
            ahead[aheadCount++] = chain;
        }
        for (int i = 0; i < aheadCount; i++) {
            fetched += chains.fetch(ahead[i]);
        }
        return aheadCount > 0;
    }
}
