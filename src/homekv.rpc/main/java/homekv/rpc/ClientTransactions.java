package homekv.rpc;

import homekv.storage.Bytes;
import homekv.storage.Entry;
import homekv.storage.Range;
import homekv.storage.Result;
import homekv.storage.RevisionOutOfRangeException;
import homekv.storage.Transactions;
import homekv.storage.Txn;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.OptionalLong;
import java.util.function.Supplier;

/**
 * A server as the source of one transaction that reads before it writes. The server keeps nothing for it between its calls.
 */
final class ClientTransactions implements Transactions.Source {
    private final HomeKvClient client;

    /** The client for the transaction under way. */
    private HomeKvClient oneStore;

    ClientTransactions(HomeKvClient client) {
        this.client = client;
    }

    @Override
    public Transactions.View open() {
        oneStore = client.withOneStore();
        OptionalLong revision = oneStore.get(List.of()).revision();
        if (revision.isEmpty()) {
            throw new HomeKvException(
                    HomeKvException.Reason.FAILED, "the server names no revisions; it is older than this client", null);
        }
        return new RevisionView(revision.getAsLong());
    }

    @Override
    public Result submit(Txn txn) {
        try {
            HomeKvClient.Transacted answer = oneStore.transact(txn);
            return new Result.Transacted(answer.revision(), answer.succeeded(), answer.results());
        } catch (HomeKvException e) {
            if (e.reason() == HomeKvException.Reason.OUT_OF_RANGE) {
                return new Result.Transacted(0, false, List.of()); // Another store: nothing that was read is there.
            }
            throw e;
        }
    }

    private final class RevisionView implements Transactions.View {
        private final long revision;
        private final List<ReadStream<Entry>> scans = new ArrayList<>();

        RevisionView(long revision) {
            this.revision = revision;
        }

        @Override
        public long revision() {
            return revision;
        }

        @Override
        public Entry get(Bytes key) {
            return reading(() -> oneStore.entry(key, revision));
        }

        @Override
        public Iterator<Entry> scan(Range range, boolean descending) {
            ScanOptions options = ScanOptions.of(range).at(revision);
            ReadStream<Entry> entries = oneStore.scan(descending ? options.backwards() : options);
            scans.add(entries);
            return new Iterator<>() {
                @Override
                public boolean hasNext() {
                    return reading(entries::hasNext);
                }

                @Override
                public Entry next() {
                    return reading(entries::next);
                }
            };
        }

        /** A revision that cannot be read any more is a conflict like any other: the function runs again on a newer one. */
        private <T> T reading(Supplier<T> read) {
            try {
                return read.get();
            } catch (HomeKvException e) {
                if (e.reason() == HomeKvException.Reason.OUT_OF_RANGE) {
                    throw new RevisionOutOfRangeException(
                            revision,
                            e.firstRevision().orElse(0),
                            e.lastRevision().orElse(0));
                }
                throw e;
            }
        }

        @Override
        public void close() {
            scans.forEach(ReadStream::close);
        }
    }
}
