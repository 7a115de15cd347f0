package homekv.storage;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import java.util.function.LongSupplier;

/**
 * One command while it is staged, and what it has come to: the versions that it makes are put before older ones, above
 * the published revision, so that the command's own reads see them and nobody else's do (S2).
 *
 * <p>Used once, in the writer's turn: one of the commands, then {@link #prepare}, after which publishing needs no memory;
 * or {@link #undo} if anything was thrown.
 */
final class Batch {
    /** Ends a command that turns out, while it is being staged, to be one that is refused. */
    static final class RefusedException extends RuntimeException {
        private static final long serialVersionUID = 1;

        final transient Result result;

        private RefusedException(Result result) {
            super(null, null, false, false);
            this.result = result;
        }
    }

    /** The longest decimal form of a long. */
    static final int MAX_INTEGER_LENGTH = 20;

    /** What an answered entry takes beside its key and its value. */
    private static final int ENTRY_OVERHEAD_BYTES = 32;

    private static final Version[] NO_VERSIONS = {};

    private final Published last;
    private final Chains map;
    private final Leases leases;
    private final Limits limits;
    private final Reclaimer reclaimer;

    /** The command's own, one above the published one. */
    private final long revision;

    /** One version of this command for each key that it changes: the newest one, unless it has written some key again. */
    private Version[] versions = NO_VERSIONS;

    private int count;
    private boolean rewritten;
    private int deletedKeys;
    private int sets;
    private int dels;
    private int txns;
    private Leases.Lease revoked;
    private boolean revokedBefore;

    /** How many more keys the command may go through, and how many more bytes it may answer. */
    private long visitsLeft;

    private long answerBytesLeft;

    /** What was compared last, and how many keys that went through. */
    private Range lastCompared;

    private long lastCompareVisits;

    private Commit commit;
    private long commitNanos;
    private long keptBytes;
    private Published next;

    Batch(Published last, Chains map, Leases leases, Limits limits, Reclaimer reclaimer) {
        this.last = last;
        this.map = map;
        this.leases = leases;
        this.limits = limits;
        this.reclaimer = reclaimer;
        this.revision = last.revision() + 1;
        this.visitsLeft = limits.requestKeys();
        this.answerBytesLeft = limits.responseBytes();
    }

    // ---- Commands ----

    Result set(Command.Set set) {
        sets = 1;
        expect(set.writes().size());
        List<Write> writes = lastWrites(set.writes());
        for (int i = 0; i < writes.size(); i++) {
            map.fetchAhead(writes, Write::key, i);
            switch (writes.get(i)) {
                case Write.Put put -> put(put.key(), put.value().unsafeArray(), put.lease());
                case Write.Delete delete -> delete(delete.key());
            }
        }
        return applied();
    }

    Result del(Command.Del del) {
        dels = 1;
        List<Bytes> keys = del.keys();
        expect(keys.size());
        for (int i = 0; i < keys.size(); i++) {
            map.fetchAhead(keys, Function.identity(), i);
            delete(keys.get(i));
        }
        return applied();
    }

    Result revoke(Command.Revoke revoke) {
        revoked = leases.findAny(revoke.lease());
        if (revoked == null || revoke.grant() != 0 && revoke.grant() != revoked.grant) {
            throw new RefusedException(new Result.NoLease(revoke.lease()));
        }
        expect(Math.min(revoke.maxKeys(), revoked.attached.size()));
        Iterator<VersionChain> attached = revoked.attached.iterator();
        while (deletedKeys < revoke.maxKeys() && attached.hasNext()) {
            Version newest = map.newest(attached.next());
            // Else a command staged before takes it from the lease.
            if (Version.lease(newest) == revoke.lease()) {
                delete(newest);
            }
        }
        if (revoked.revoked && deletedKeys == 0) {
            throw new RefusedException(new Result.NoLease(revoke.lease()));
        }
        return applied();
    }

    /** Does again what a log has kept of a command. */
    Result replay(LogRecord.Committed committed) {
        expect(committed.writes().size());
        int staged = 0;
        for (Write write : committed.writes()) {
            int before = count;
            switch (write) {
                case Write.Put put -> {
                    if (put.lease() != 0 && leases.findAny(put.lease()) == null) {
                        throw new IllegalArgumentException(
                                "a key is attached to lease " + put.lease() + ", which is not there");
                    }
                    stagePut(put.key(), put.value().unsafeArray(), put.lease());
                    // A key that the record deletes first is created anew.
                    staged += count == before
                                    && Arrays.equals(
                                            versions[count - 1].key, put.key().unsafeArray())
                            ? 0
                            : 1;
                }
                case Write.Delete delete -> {
                    delete(delete.key());
                    staged++;
                }
            }
        }
        if (count != staged || revisionTaken() != committed.revision()) {
            throw new IllegalArgumentException("revision " + committed.revision() + ", which changes " + staged
                    + " keys, comes after revision " + last.revision() + ", of whose keys it would change " + count);
        }
        if (committed.endedLease() != 0) {
            revoked = leases.findAny(committed.endedLease());
            if (revoked == null || revoked.grant != committed.endedGrant()) {
                throw new IllegalArgumentException("lease " + committed.endedLease() + " ends, which is not there");
            }
        }
        return applied();
    }

    /** Nothing can fail any more: a lease that it ends takes no more keys from here on. */
    void ordered() {
        if (revoked != null) {
            revokedBefore = revoked.revoked;
            revoked.revoked = true;
        }
    }

    /** It is no command any more for those that follow. */
    void notOrdered() {
        if (revoked != null) {
            revoked.revoked = revokedBefore;
        }
    }

    Result transact(Txn txn) {
        txns = 1;
        OpResult.Transacted transacted = carryOut(txn);
        takeBackUnchanged();
        return new Result.Transacted(revisionTaken(), transacted.succeeded(), transacted.results());
    }

    private Result.Applied applied() {
        return new Result.Applied(revisionTaken(), deletedKeys);
    }

    /** A command that changes nothing takes no revision (S5). */
    private long revisionTaken() {
        return count > 0 ? revision : last.revision();
    }

    /** The last write of each key, so that a key gets one version a command (S5). */
    static List<Write> lastWrites(List<Write> writes) {
        if (writes.size() <= 1) {
            return writes;
        }
        Map<Bytes, Write> lastByKey = LinkedHashMap.newLinkedHashMap(writes.size());
        for (Write write : writes) {
            lastByKey.put(write.key(), write);
        }
        return lastByKey.size() == writes.size() ? writes : List.copyOf(lastByKey.values());
    }

    // ---- Transactions ----

    private OpResult.Transacted carryOut(Txn txn) {
        boolean succeeded = true;
        for (int i = 0; succeeded && i < txn.compares().size(); i++) {
            succeeded = holds(txn.compares().get(i));
        }
        List<Op> steps = succeeded ? txn.then() : txn.otherwise();
        List<OpResult> results = new ArrayList<>(steps.size());
        for (Op step : steps) {
            results.add(carryOut(step));
        }
        return new OpResult.Transacted(succeeded, Collections.unmodifiableList(results));
    }

    private OpResult carryOut(Op step) {
        return switch (step) {
            case Op.Get get -> new OpResult.Got(answer(entry(get.key())));
            case Op.Scan scan -> scan(scan);
            case Op.Put put -> {
                Entry previous = put.previous() ? answer(entry(put.key())) : null;
                put(put.key(), put.value().unsafeArray(), put.lease());
                yield new OpResult.Put(previous);
            }
            case Op.Delete delete -> delete(delete);
            case Op.Increment increment -> increment(increment);
            case Txn txn -> carryOut(txn);
        };
    }

    private boolean holds(Compare compare) {
        Range range = compare.range();
        if (range.equals(lastCompared)) {
            visitsLeft += lastCompareVisits; // Several comparisons of one range that follow each other count once.
        }
        long visitsBefore = visitsLeft;
        boolean holds = holdsIn(range, compare);
        lastCompared = range;
        lastCompareVisits = visitsBefore - visitsLeft;
        return holds;
    }

    private boolean holdsIn(Range range, Compare compare) {
        long count = 0;
        if (range.isKey()) {
            Entry entry = entry(range.from());
            if (entry != null) {
                count = 1;
                if (!holds(compare, entry)) {
                    return false;
                }
            }
        } else {
            ChainWalk walk = walk(range, false);
            for (Entry entry; (entry = next(walk)) != null; ) {
                count++;
                if (!holds(compare, entry)) {
                    return false;
                }
            }
        }
        return switch (compare) {
            case Compare.Count wanted -> wanted.operator().holds(Long.compare(count, wanted.count()));
            case Compare.Number number -> count > 0 || number.operator().holds(Long.compare(0, number.number()));
            case Compare.Value value -> count > 0;
        };
    }

    private static boolean holds(Compare compare, Entry entry) {
        return switch (compare) {
            case Compare.Number number ->
                number.operator().holds(Long.compare(number.field().of(entry), number.number()));
            case Compare.Value value -> value.operator().holds(entry.value().compareTo(value.value()));
            case Compare.Count count -> true;
        };
    }

    private OpResult scan(Op.Scan scan) {
        ChainWalk walk = walk(scan.range(), scan.descending());
        if (scan.countOnly()) {
            long found = 0;
            while (next(walk) != null) {
                found++;
            }
            return new OpResult.Scanned(List.of(), found, false);
        }
        List<Entry> entries = new ArrayList<>();
        Entry entry;
        while ((entry = next(walk)) != null && (scan.limit() == 0 || entries.size() < scan.limit())) {
            entries.add(scan.keysOnly() ? answer(entry, 0) : answer(entry));
        }
        return new OpResult.Scanned(Collections.unmodifiableList(entries), entries.size(), entry != null);
    }

    private OpResult delete(Op.Delete delete) {
        List<Entry> previous = new ArrayList<>();
        long deleted = 0;
        if (delete.range().isKey()) {
            Entry entry = entry(delete.range().from());
            if (entry != null) {
                deleted = 1;
                if (delete.previous()) {
                    previous.add(answer(entry));
                }
                delete(delete.range().from());
            }
        } else {
            ChainWalk walk = walk(delete.range(), false);
            for (VersionChain chain; (chain = walk.next()) != null; ) {
                Entry entry = map.entryAt(chain, revision);
                if (entry != null) {
                    visit();
                    deleted++;
                    if (delete.previous()) {
                        previous.add(answer(entry));
                    }
                    delete(map.newest(chain));
                }
            }
        }
        return new OpResult.Deleted(deleted, Collections.unmodifiableList(previous));
    }

    private OpResult increment(Op.Increment increment) {
        Entry entry = entry(increment.key());
        long sum;
        try {
            sum = Math.addExact(entry == null ? 0 : integer(entry.value()), increment.by());
        } catch (NumberFormatException | ArithmeticException e) {
            throw new RefusedException(new Result.NotAnInteger(increment.key()));
        }
        byte[] value = Long.toString(sum).getBytes(StandardCharsets.US_ASCII);
        // It stays with its lease, also while that is being ended, and ends with it.
        stagePut(increment.key(), value, entry == null ? 0 : entry.lease());
        return new OpResult.Incremented(sum);
    }

    private static long integer(Bytes value) {
        String text = new String(
                value.unsafeArray(), 0, Math.min(value.length(), MAX_INTEGER_LENGTH + 1), StandardCharsets.ISO_8859_1);
        if (text.length() > MAX_INTEGER_LENGTH || text.startsWith("+")) {
            throw new NumberFormatException();
        }
        return Long.parseLong(text);
    }

    // ---- Reading what is there, the command's own writes included ----

    private Entry entry(Bytes key) {
        visit();
        return map.entryAt(key, revision);
    }

    private ChainWalk walk(Range range, boolean descending) {
        return new ChainWalk(map, range, descending);
    }

    private Entry next(ChainWalk walk) {
        for (VersionChain chain; (chain = walk.next()) != null; ) {
            Entry entry = map.entryAt(chain, revision);
            if (entry != null) {
                visit(); // Deleted keys do not count: how many are left depends on more than the commands (S8).
                return entry;
            }
        }
        return null;
    }

    /** Holds the time that the command has the turn for within bounds. */
    private void visit() {
        if (--visitsLeft < 0) {
            throw new RefusedException(
                    new Result.Refused(Limit.REQUEST_KEYS, limits.requestKeys() + 1L, limits.requestKeys()));
        }
    }

    /** Holds what the command answers within bounds. */
    private Entry answer(Entry entry) {
        return entry == null ? null : answer(entry, entry.value().length());
    }

    private Entry answer(Entry entry, int valueBytes) {
        answerBytesLeft -= entry.key().length() + valueBytes + ENTRY_OVERHEAD_BYTES;
        if (answerBytesLeft < 0) {
            throw new RefusedException(new Result.Refused(
                    Limit.RESPONSE_BYTES, limits.responseBytes() - answerBytesLeft, limits.responseBytes()));
        }
        return entry;
    }

    // ---- Staging ----

    /** Makes room for so many changes. */
    private void expect(int changes) {
        versions = new Version[changes];
    }

    private void put(Bytes key, byte[] value, long lease) {
        if (lease != 0 && leases.find(lease) == null) {
            throw new RefusedException(new Result.NoLease(lease));
        }
        stagePut(key, value, lease);
    }

    private void stagePut(Bytes key, byte[] value, long lease) {
        Version newest = map.find(key);
        if (newest != null) {
            stage(newest, Version.put(revision, value, lease, newest));
            return;
        }
        growIfFull();
        VersionChain chain = map.chain(key, revision);
        map.insert(chain);
        if (lease == 0) {
            versions[count++] = chain;
            chain.value = value; // Not before: from here on undoing takes it back.
        } else {
            stage(chain, Version.put(revision, value, lease, chain));
        }
    }

    private void delete(Bytes key) {
        delete(map.find(key));
    }

    private void delete(Version newest) {
        if (Version.isLive(newest)) {
            stage(newest, Version.tombstone(revision, newest));
            deletedKeys++;
        }
    }

    /** Puts a version in front of what the table has of its key, above the published revision, where no reader looks. */
    private void stage(Version newest, Version version) {
        VersionChain chain = version.chain();
        if (newest.revision == revision && newest.value != Version.DROPPED) {
            rewritten = true;
            leases.attach(version.lease(), chain);
            map.replace(newest, version);
            if (newest == chain) {
                chain.dropFirst();
            }
            // Of the leases that it was attached to within this command, none but the last counts.
            if (newest.lease() != version.lease() && newest.lease() != Version.lease(version.older())) {
                leases.detach(newest.lease(), chain);
            }
            return;
        }
        growIfFull();
        leases.attach(version.lease(), chain); // The last thing that can fail: undoing finds what is attached.
        versions[count++] = version;
        map.replace(newest, version);
    }

    private void growIfFull() {
        if (count == versions.length) {
            versions = Arrays.copyOf(versions, Math.max(4, 2 * count));
        }
    }

    /** A key that was absent before the command and is absent again has not been changed (S5). */
    private void takeBackUnchanged() {
        int changed = 0;
        for (int i = 0; i < count; i++) {
            VersionChain chain = versions[i].chain();
            Version newest = map.newest(chain);
            if (newest.isTombstone() && !Version.isLive(newest.older())) {
                map.replace(newest, newest.older());
                reclaimer.removeIfEmpty(chain);
            } else {
                versions[changed++] = newest;
            }
        }
        count = changed;
        rewritten = false;
    }

    /** Makes everything that publishing needs. */
    void prepare(LongSupplier nanoClock) {
        long keys = last.keys();
        long keyBytes = last.keyBytes();
        long valueBytes = last.valueBytes();
        keptBytes = reclaimer.commitBytes(count);
        for (int i = 0; i < count; i++) {
            if (rewritten) {
                versions[i] = map.newest(versions[i].chain());
            }
            Version version = versions[i];
            Version older = version.older();
            int keyLength = version.key.length;
            if (Version.isLive(version)) {
                keys++;
                keyBytes += keyLength;
                valueBytes += version.value.length;
            }
            if (Version.isLive(older)) {
                keys--;
                keyBytes -= keyLength;
                valueBytes -= older.value.length;
            }
            keptBytes += reclaimer.keptBytes(version);
        }
        next = new Published(
                revisionTaken(),
                keys,
                keyBytes,
                valueBytes,
                last.sets() + sets,
                last.dels() + dels,
                last.txns() + txns);
        if (count > 0) {
            Version[] made = count == versions.length ? versions : Arrays.copyOf(versions, count);
            commit = Commit.of(made);
            commitNanos = nanoClock.getAsLong();
        }
    }

    /** Takes back what has been staged (S11). Allocates nothing; empty chains are left in the map. */
    void undo() {
        for (int i = 0; i < count; i++) {
            VersionChain chain = versions[i].chain();
            Version version = map.newest(chain);
            if (version != null && version.revision == revision) {
                map.replace(version, version.older());
                if (version == chain) {
                    chain.dropFirst();
                }
                if (version.lease() != Version.lease(version.older())) {
                    leases.detach(version.lease(), chain);
                }
            }
        }
    }

    // ---- What it has come to ----

    /** What was published when the command was staged. */
    Published last() {
        return last;
    }

    /** What is published with it. */
    Published next() {
        return next;
    }

    /** What it changes, or null if it changes nothing. */
    Commit commit() {
        return commit;
    }

    /** When, on the store's clock. */
    long commitNanos() {
        return commitNanos;
    }

    /** What the account keeps because of it, while it is in the history. */
    long keptBytes() {
        return keptBytes;
    }

    /** The lease that it ends, or null. */
    Leases.Lease revoked() {
        return revoked;
    }

    /** How many keys it has deleted. */
    int deletedKeys() {
        return deletedKeys;
    }

    /** How many chains it has touched. */
    int count() {
        return count;
    }

    /** One of the chains that it has touched. */
    VersionChain touched(int index) {
        return versions[index].chain();
    }
}
