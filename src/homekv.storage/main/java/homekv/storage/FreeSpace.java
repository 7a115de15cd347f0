package homekv.storage;

import java.io.IOException;
import java.util.List;
import java.util.function.Consumer;
import java.util.function.LongSupplier;

/**
 * Sees to it that a log does not run into a full disk, which would stop it for good: where too little is free, commands
 * are refused, first those that need more and more room, then all that would be logged, and taken again once there is
 * room.
 *
 * <p>For the log's own thread, but for {@link #requireSome}. Looking costs a call of the kernel, after every MiB of
 * log, after a second, and each time while commands are being refused.
 */
final class FreeSpace {
    private static final long LOOK_BYTES = 1 << 20;
    private static final long LOOK_NANOS = 1_000_000_000;

    /** Below this part of the space that is to be free, nothing is logged any more. */
    private static final int NOTHING_LOGGED_PART = 4;

    private final Disk disk;

    /** 0: nobody looks. */
    private final long wantedBytes;

    private final LongSupplier nanoClock;
    private final Consumer<String> notices;

    /** What was free when it was last looked at, when that was, and how much has been logged since. */
    private long freeBytes = Long.MAX_VALUE;

    private long lookedNanos;
    private long unlookedBytes = LOOK_BYTES;

    /** Whether looking has failed, and this has been told. */
    private boolean isUnknown;

    FreeSpace(Disk disk, long wantedBytes, LongSupplier nanoClock, Consumer<String> notices) {
        this.disk = disk;
        this.wantedBytes = wantedBytes;
        this.nanoClock = nanoClock;
        this.notices = notices;
    }

    /** So much has been logged. */
    void logged(long bytes) {
        unlookedBytes += bytes;
    }

    /**
     * Looks at the disk if it is time to; whether it is short of room. If that cannot be found out, what was found last
     * counts until it is looked at the next time: if the disk has failed, writing to it will tell.
     */
    boolean look() {
        boolean wasShort = freeBytes < wantedBytes;
        if (wantedBytes == 0
                || !wasShort && unlookedBytes < LOOK_BYTES && nanoClock.getAsLong() - lookedNanos < LOOK_NANOS) {
            return wasShort;
        }
        lookedNanos = nanoClock.getAsLong();
        unlookedBytes = 0;
        try {
            freeBytes = disk.freeBytes();
            isUnknown = false;
        } catch (IOException e) {
            if (!isUnknown) {
                notices.accept("how much of the disk is free cannot be found out: " + Notices.reason(e)
                        + "; it is tried again");
                isUnknown = true;
            }
            return wasShort;
        }
        boolean isShort = freeBytes < wantedBytes;
        if (isShort && !wasShort) {
            notices.accept(disk.path("") + ": " + Notices.megabytes(freeBytes)
                    + " of the disk are free, less than the " + Notices.megabytes(wantedBytes)
                    + " that have to be; writes are refused until there is room again");
        } else if (wasShort && !isShort) {
            notices.accept(disk.path("") + ": " + Notices.megabytes(freeBytes)
                    + " of the disk are free again; writes are taken");
        }
        return isShort;
    }

    /** Whether so much can be written beside the log without stopping what is still taken. */
    boolean isRoomFor(long bytes) {
        return freeBytes - wantedBytes / NOTHING_LOGGED_PART > bytes;
    }

    /** Any thread. Fails where nothing is logged any more, so that nothing else may be written, either. */
    void requireSome() throws IOException {
        if (wantedBytes > 0) {
            long free = disk.freeBytes();
            if (free < wantedBytes / NOTHING_LOGGED_PART) {
                throw new IOException("only " + Notices.megabytes(free) + " of the disk are free");
            }
        }
    }

    /** The answer to a command for which too little of the disk is free, or null. */
    Result refuse(Command command) {
        if (freeBytes >= wantedBytes) {
            return null;
        }
        long least = wantedBytes / NOTHING_LOGGED_PART;
        if (puts(command)) {
            return new Result.DiskFull(freeBytes, wantedBytes);
        }
        return freeBytes < least && changes(command) ? new Result.DiskFull(freeBytes, least) : null;
    }

    private static boolean puts(Command command) {
        return switch (command) {
            case Command.Set set -> {
                boolean puts = false;
                for (int i = 0; !puts && i < set.writes().size(); i++) {
                    puts = set.writes().get(i) instanceof Write.Put;
                }
                yield puts;
            }
            case Txn txn -> puts(txn.then()) || puts(txn.otherwise());
            case Command.Grant grant -> true;
            case Command.Del del -> false;
            case Command.Compact compact -> false;
            case Command.Revoke revoke -> false;
        };
    }

    private static boolean puts(List<Op> steps) {
        boolean puts = false;
        for (int i = 0; !puts && i < steps.size(); i++) {
            puts = switch (steps.get(i)) {
                case Op.Put put -> true;
                case Op.Increment increment -> true;
                case Txn txn -> puts(txn.then()) || puts(txn.otherwise());
                case Op.Delete delete -> false;
                case Op.Get get -> false;
                case Op.Scan scan -> false;
            };
        }
        return puts;
    }

    private static boolean changes(Command command) {
        return !(command instanceof Txn txn) || changes(txn.then()) || changes(txn.otherwise());
    }

    private static boolean changes(List<Op> steps) {
        boolean changes = false;
        for (int i = 0; !changes && i < steps.size(); i++) {
            changes = switch (steps.get(i)) {
                case Op.Put put -> true;
                case Op.Increment increment -> true;
                case Op.Delete delete -> true;
                case Txn txn -> changes(txn.then()) || changes(txn.otherwise());
                case Op.Get get -> false;
                case Op.Scan scan -> false;
            };
        }
        return changes;
    }
}
