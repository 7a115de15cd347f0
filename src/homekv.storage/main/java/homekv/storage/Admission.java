package homekv.storage;

import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Decides whether there is room for a command (S9). In the writer's turn, before the command is ordered, since the answer
 * depends on which snapshots are open and what a command does must not.
 */
final class Admission {
    private final Chains chains;
    private final Reclaimer reclaimer;
    private final Limits limits;

    /** The command that was asked about last and what it needs, since a log asks up to three times; or null. */
    private Command asked;

    private Need askedNeed;

    Admission(Chains chains, Reclaimer reclaimer, Limits limits) {
        this.chains = chains;
        this.reclaimer = reclaimer;
        this.limits = limits;
    }

    /** Why there is no room for this command now, or null if there is. Nothing may be staged. */
    Result.Refused admit(Command command) {
        Need need = need(command);
        if (!need.puts || reclaimer.chargedBytes() + need.bytes() <= limits.memoryBytes()) {
            return null;
        }
        forget(); // If it is refused, nothing more is asked.
        return switch (command) {
            case Command.Set set -> admit(need, growth(Batch.lastWrites(set.writes())));
            case Txn txn -> admit(need, growth(txn));
            case Command.Grant grant -> admit(need, new Growth(Footprint.LEASE_BYTES, 0));
            case Command.Del del -> null;
            case Command.Compact compact -> null;
            case Command.Revoke revoke -> null;
        };
    }

    /** Whether there is room for the command beside what others that are staged may add, as far as can be seen quickly. */
    boolean fits(Command command, long stagedBytes) {
        Need need = need(command);
        return !need.puts || reclaimer.chargedBytes() + stagedBytes + need.bytes() <= limits.memoryBytes();
    }

    /** The most that a command may add to the account. The last thing that is asked about it. */
    long mostBytes(Command command) {
        long bytes = need(command).bytes();
        forget();
        return bytes;
    }

    /** Nothing more is asked about the last command, which is not kept in memory for it. */
    void forget() {
        asked = null;
    }

    /** What a command that has been staged adds to the account for so many keys that it deletes. */
    long deletionBytes(int deletedKeys) {
        return deletedKeys == 0 ? 0 : reclaimer.deletionBytes() * deletedKeys + reclaimer.commitBytes(deletedKeys);
    }

    private Need need(Command command) {
        if (command != asked) {
            askedNeed = computeNeed(command);
            asked = command;
        }
        return askedNeed;
    }

    private Need computeNeed(Command command) {
        Need need = new Need();
        switch (command) {
            case Command.Set set -> set.writes().forEach(need::add);
            case Txn txn -> need.add(txn);
            case Command.Grant grant -> {
                need.bytes = Footprint.LEASE_BYTES;
                need.puts = true;
            }
            case Command.Del del ->
                need.bytes = reclaimer.deletionBytes() * del.keys().size();
            case Command.Revoke revoke -> need.bytes = reclaimer.deletionBytes() * revoke.maxKeys();
            case Command.Compact compact -> {}
        }
        return need;
    }

    /** The most that a command can add to the account, while nothing that it replaces is dropped. */
    private final class Need {
        private long bytes;
        private long changes;
        private boolean puts;

        void add(Write write) {
            switch (write) {
                case Write.Put put -> addPut(put.key(), put.value().length(), put.lease());
                case Write.Delete delete -> addDelete();
            }
        }

        /** Both branches, since which one it will be is not known before the command is ordered. */
        void add(Txn txn) {
            txn.then().forEach(this::add);
            if (!txn.compares().isEmpty()) {
                txn.otherwise().forEach(this::add);
            }
        }

        private void add(Op op) {
            switch (op) {
                case Op.Put put -> addPut(put.key(), put.value().length(), put.lease());
                case Op.Increment increment -> addPut(increment.key(), Batch.MAX_INTEGER_LENGTH, ANY_LEASE);
                case Op.Delete delete -> addDelete();
                case Txn txn -> add(txn);
                case Op.Get get -> {}
                case Op.Scan scan -> {}
            }
        }

        private void addPut(Bytes key, int valueLength, long lease) {
            bytes += reclaimer.addedBytes(key, valueLength, lease, null) + Footprint.PENDING_BYTES;
            changes++;
            puts = true;
        }

        private void addDelete() {
            bytes += reclaimer.deletionBytes();
            changes++;
        }

        long bytes() {
            return bytes + reclaimer.commitBytes((int) Math.min(changes, Integer.MAX_VALUE));
        }
    }

    private static final long ANY_LEASE = 1;

    /** What a command adds to the account, and what it replaces of it, once nobody needs that any more. */
    private record Growth(long addedBytes, long replacedBytes) {}

    /** What is decided exactly only where the store is nearly full: whatever makes it no larger is always taken. */
    private Result.Refused admit(Need need, Growth most) {
        long addedBytes = most.addedBytes;
        long replacedBytes = most.replacedBytes;
        long heldBytes = reclaimer.makeRoom(addedBytes, replacedBytes, Math.max(0, need.bytes() - addedBytes));
        return heldBytes <= limits.memoryBytes() || addedBytes <= replacedBytes
                ? null
                : new Result.Refused(Limit.MEMORY_BYTES, heldBytes, limits.memoryBytes());
    }

    private Growth growth(Iterable<Write> lastWrites) {
        long addedBytes = 0;
        long replacedBytes = 0;
        for (Write write : lastWrites) {
            Version newest = chains.find(write.key());
            replacedBytes += reclaimer.replacedBytes(newest);
            if (write instanceof Write.Put put) {
                addedBytes += reclaimer.addedBytes(put.key(), put.value().length(), put.lease(), newest);
            }
        }
        return new Growth(addedBytes, replacedBytes);
    }

    /**
     * The most that a transaction may come to. Which of its puts are carried out is not known before it is ordered, so the
     * largest one of each key counts, and one that may be left out makes no room for others.
     */
    private Growth growth(Txn txn) {
        Map<Bytes, Growth> growthByKey = new HashMap<>();
        collect(txn, true, growthByKey);
        long addedBytes = 0;
        long replacedBytes = 0;
        for (Growth growth : growthByKey.values()) {
            addedBytes += growth.addedBytes;
            replacedBytes += growth.replacedBytes;
        }
        return new Growth(addedBytes, replacedBytes);
    }

    private void collect(Txn txn, boolean certain, Map<Bytes, Growth> growthByKey) {
        boolean unconditional = txn.compares().isEmpty();
        collect(txn.then(), certain && unconditional, growthByKey);
        if (!unconditional) {
            collect(txn.otherwise(), false, growthByKey);
        }
    }

    private void collect(List<Op> steps, boolean certain, Map<Bytes, Growth> growthByKey) {
        for (Op step : steps) {
            switch (step) {
                case Op.Put put -> collect(put.key(), put.value().length(), put.lease(), certain, growthByKey);
                case Op.Increment increment ->
                    collect(increment.key(), Batch.MAX_INTEGER_LENGTH, ANY_LEASE, certain, growthByKey);
                case Txn txn -> collect(txn, certain, growthByKey);
                case Op.Delete delete -> {
                    if (certain && delete.range().isKey()) {
                        Bytes key = delete.range().from();
                        add(key, new Growth(0, reclaimer.replacedBytes(chains.find(key))), growthByKey);
                    }
                }
                case Op.Get get -> {}
                case Op.Scan scan -> {}
            }
        }
    }

    private void collect(Bytes key, int valueLength, long lease, boolean certain, Map<Bytes, Growth> growthByKey) {
        Version newest = chains.find(key);
        long addedBytes = reclaimer.addedBytes(key, valueLength, lease, newest);
        long replacedBytes = reclaimer.replacedBytes(newest);
        Growth growth = new Growth(addedBytes, certain ? replacedBytes : Math.min(addedBytes, replacedBytes));
        add(key, growth, growthByKey);
    }

    private static void add(Bytes key, Growth growth, Map<Bytes, Growth> growthByKey) {
        growthByKey.merge(key, growth, (one, other) -> one.addedBytes >= other.addedBytes ? one : other);
    }
}
