package homekv.cli;

import homekv.rpc.HomeKvClient;
import homekv.storage.Bytes;
import homekv.storage.Difference;
import homekv.storage.Durability;
import homekv.storage.Entry;
import homekv.storage.Event;
import homekv.storage.LeaseStatus;
import homekv.storage.Op;
import homekv.storage.OpResult;
import homekv.storage.SnapshotFileInfo;
import homekv.storage.Txn;
import java.io.IOException;
import java.io.OutputStream;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;

/** What results look like: lines of text that has one {@code char} a byte. */
final class Output {
    private final OutputStream out;

    Output(OutputStream out) {
        this.out = out;
    }

    /** Where it all goes, for what is no text. */
    OutputStream stream() {
        return out;
    }

    void line(String text) throws IOException {
        print(text + "\n");
    }

    void print(String text) throws IOException {
        out.write(text.getBytes(StandardCharsets.ISO_8859_1));
    }

    void flush() throws IOException {
        out.flush();
    }

    /** What a key has, null where it is absent. */
    void found(Bytes key, Bytes value) throws IOException {
        line(value == null ? Text.showKey(key) + " (not found)" : pair(key, value));
    }

    void found(Bytes key, Entry entry) throws IOException {
        found(key, entry == null ? null : entry.value());
    }

    void entry(Entry entry) throws IOException {
        line(pair(entry.key(), entry.value()));
    }

    void key(Bytes key) throws IOException {
        line(Text.showKey(key));
    }

    private static String pair(Bytes key, Bytes value) {
        return Text.showKey(key) + "=" + Text.showValue(value);
    }

    void written(HomeKvClient.Written written) throws IOException {
        line("OK" + number(" deleted=", written.deleted()) + number(" revision=", written.revision())
                + sync(written.durability()));
    }

    void written(HomeKvClient.Written written, long lease) throws IOException {
        line("OK" + number(" revision=", written.revision()) + " lease=" + lease + sync(written.durability()));
    }

    void written(HomeKvClient.Swapped swapped) throws IOException {
        line("OK revision=" + Long.toUnsignedString(swapped.revision()) + sync(swapped.durability()));
    }

    /** What a write survives, in the words of the flag of the server that says so; nothing where it survives nothing. */
    private static String sync(Durability durability) {
        return switch (durability) {
            case null -> "";
            case MEMORY -> "";
            case WRITTEN -> " sync=never";
            case INTERVAL -> " sync=interval";
            case FORCED -> " sync=always";
        };
    }

    private static String number(String name, OptionalLong number) {
        return number.isPresent() ? name + Long.toUnsignedString(number.getAsLong()) : "";
    }

    void metrics(Map<String, Long> metrics) throws IOException {
        for (Map.Entry<String, Long> metric : metrics.entrySet()) {
            line(metric.getKey() + ": " + Long.toUnsignedString(metric.getValue()));
        }
    }

    /** The words in front of the key have no spaces, so that a line can be taken apart whatever is in its values. */
    void event(Event event) throws IOException {
        Entry previous = event.previous();
        String was = previous == null ? "" : "was=" + Text.showWord(previous.value()) + " ";
        line(
                switch (event) {
                    case Event.Put put ->
                        "revision=" + put.revision() + " version=" + put.entry().version() + " " + was
                                + pair(put.key(), put.entry().value());
                    case Event.Delete delete ->
                        "revision=" + delete.revision() + " " + was + Text.showKey(delete.key()) + " (deleted)";
                });
    }

    void difference(Difference difference) throws IOException {
        if (difference.before() != null) {
            line("- " + pair(difference.key(), difference.before().value()));
        }
        if (difference.after() != null) {
            line("+ " + pair(difference.key(), difference.after().value()));
        }
    }

    void lease(LeaseStatus lease) throws IOException {
        line("lease=" + lease.id() + " ttl=" + seconds(lease.ttlMillis()) + " left=" + seconds(lease.leftMillis())
                + " keys=" + lease.keys());
    }

    void snapshot(SnapshotFileInfo file) throws IOException {
        line("OK revision=" + Long.toUnsignedString(file.revision()) + " keys=" + file.keys() + " bytes=" + file.bytes()
                + " file=" + file.name());
    }

    /** 30s, 0.25s. */
    private static String seconds(long millis) {
        BigDecimal seconds = BigDecimal.valueOf(millis, 3);
        return (millis == 0 ? "0" : seconds.stripTrailingZeros().toPlainString()) + "s";
    }

    /** A line that says which steps were carried out, and for each step what it came to. */
    void transacted(Txn txn, HomeKvClient.Transacted result) throws IOException {
        line((result.succeeded() ? "OK" : "ELSE") + " revision=" + Long.toUnsignedString(result.revision())
                + sync(result.durability()));
        List<Op> steps = result.succeeded() ? txn.then() : txn.otherwise();
        for (int i = 0; i < steps.size(); i++) {
            step(steps.get(i), result.results().get(i));
        }
    }

    private void step(Op step, OpResult result) throws IOException {
        switch (result) {
            case OpResult.Got got -> found(((Op.Get) step).key(), got.entry());
            case OpResult.Scanned scanned -> {
                for (Entry entry : scanned.entries()) {
                    entry(entry);
                }
                line("found=" + scanned.count() + (scanned.more() ? " and more" : ""));
            }
            case OpResult.Put put -> line("put " + Text.showKey(((Op.Put) step).key()));
            case OpResult.Deleted deleted -> line("deleted=" + deleted.deleted());
            case OpResult.Incremented sum -> line(Text.showKey(((Op.Increment) step).key()) + "=" + sum.value());
            case OpResult.Transacted within -> throw new AssertionError("no script has a transaction within");
        }
    }
}
