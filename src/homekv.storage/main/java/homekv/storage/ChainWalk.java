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
    /** For how many chains the table is looked up at once: what that fetches from memory is fetched at the same time. */
    private static final int MOST_AT_ONCE = 16;

    /** After so many times, a reader lets other virtual threads have their turn, which nobody else does for it. */
    private static final int FINDS_BEFORE_YIELD = 32;

    private final Chains chains;
    private final byte[] from;

    /** Null when walking down. */
    private final Iterator<VersionChain> ascending;

    private VersionChain before;

    /** Of chains that have been passed, versions that have yet to be returned; chains while they are looked for. */
    private Version[] found = {};

    private int foundCount;
    private int returned;
    private int finds;

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
     * What the next chain with anything for a revision reads there, a tombstone perhaps, or null at the end; for readers,
     * some chains ahead. The same revision each time; see {@link Chains#at}.
     */
    Version next(long revision) {
        while (returned == foundCount) {
            if (!findNext(revision)) {
                return null;
            }
        }
        return found[returned++];
    }

    private boolean findNext(long revision) {
        if (++finds % FINDS_BEFORE_YIELD == 0) {
            Thread.yield();
        }
        if (found.length < MOST_AT_ONCE) {
            found = new Version[Math.max(4, 2 * found.length)]; // A short walk need not look far ahead.
        }
        int passed = 0;
        for (VersionChain chain; passed < found.length && (chain = next()) != null; ) {
            found[passed++] = chain;
        }
        for (int i = 0; i < passed; i++) {
            fetched += chains.fetch((VersionChain) found[i]);
        }
        foundCount = 0;
        returned = 0;
        for (int i = 0; i < passed; i++) {
            Version version = chains.at((VersionChain) found[i], revision);
            if (version != null) {
                found[foundCount++] = version;
            }
        }
        return passed > 0;
    }
}
