package homekv.cli;

import homekv.rpc.HomeKvClient;
import homekv.rpc.HomeKvException;
import homekv.rpc.ReadStream;
import homekv.rpc.ScanOptions;
import homekv.storage.Entry;
import homekv.storage.Range;
import homekv.storage.SnapshotFileInfo;
import java.io.FilterOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/** What goes between a server and a file, or standard input and output: backup, export and import. */
final class Transfer {
    private static final String STANDARD = "-";

    /** A word that a shell takes as it is. */
    private static final Pattern PLAIN_WORD = Pattern.compile("[A-Za-z0-9_./:=@%+,-]+");

    private final HomeKvClient client;
    private final String file;
    private final Progress progress;

    /**
     * A transfer to or from a file.
     *
     * @param file its name as it was typed; - for standard input or output
     */
    Transfer(HomeKvClient client, String file, Progress progress) {
        this.client = client;
        this.file = file;
        this.progress = progress;
    }

    // ---- To a file ----

    /** Writes to a file, and returns what that was. */
    private interface Content {
        String write(OutputStream to) throws IOException;
    }

    /** Writes a backup of the whole store. */
    int backup(Output out) throws IOException, Commands.FailedException {
        return save(out, to -> {
            SnapshotFileInfo backup = client.backup(new FilterOutputStream(to) {
                private long bytes;

                @Override
                public void write(byte[] part, int from, int length) throws IOException {
                    to.write(part, from, length);
                    bytes += length;
                    show("backup", 0, 0, 0, bytes);
                }
            });
            return "backed up " + backup.keys() + " keys (" + Text.size(backup.bytes()) + ") at revision "
                    + Long.toUnsignedString(backup.revision());
        });
    }

    /** Writes the pairs of a scan as lines. */
    int export(ScanOptions scan, Output out) throws IOException, Commands.FailedException {
        return save(out, to -> {
            PairWriter writer = new PairWriter(to);
            long pairs = 0;
            try (ReadStream<Entry> entries = client.scan(scan)) {
                long revision = entries.revision();
                long total = isShown() ? count(scan.range(), revision) : 0;
                for (; entries.hasNext(); pairs++) {
                    writer.write(entries.next());
                    show("export", pairs, total, pairs, writer.bytes());
                }
                writer.flush();
                return "exported " + pairs + " pairs (" + Text.size(writer.bytes()) + ") at revision "
                        + Long.toUnsignedString(revision);
            }
        });
    }

    /** How many keys there are, or 0 where that cannot be found out: it is asked only to show how much is left. */
    private long count(Range range, long revision) {
        try {
            return client.count(range, revision);
        } catch (HomeKvException e) {
            return 0;
        }
    }

    /** Not where it would stand between the lines of the result. */
    private boolean isShown() {
        return progress.isShown() && !(file.equals(STANDARD) && Hkvctl.isOutputTerminal());
    }

    private void show(String what, long done, long total, long pairs, long bytes) {
        if (isShown()) {
            progress.show(what, done, total, pairs, bytes);
        }
    }

    private int save(Output out, Content content) throws IOException, Commands.FailedException {
        try {
            String done;
            if (file.equals(STANDARD)) {
                done = content.write(out.stream());
                out.flush();
            } else {
                done = saveFile(content);
            }
            progress.say(done + " " + progress.inSeconds());
            return Program.DONE;
        } finally {
            progress.clear();
        }
    }

    private String saveFile(Content content) throws Commands.FailedException {
        try (NewFile target = NewFile.create(file)) {
            Hkvctl.whenInterrupted(() -> interrupted(target));
            String done = content.write(target.out());
            target.complete();
            return done;
        } catch (IOException e) {
            throw new Commands.FailedException(Program.REFUSED, "cannot write " + named() + ": " + NewFile.why(e));
        }
    }

    private void interrupted(NewFile target) {
        try {
            target.abandon();
        } catch (IOException e) {
            progress.say("hkvctl: cannot delete what was written of " + named() + ": " + NewFile.why(e));
        }
        progress.clear();
    }

    // ---- From a file ----

    /**
     * Sets the pairs of lines.
     *
     * @param skippedLines how many lines to begin behind
     * @param again the words of a command that goes on, up to where
     */
    int importPairs(InputStream in, long skippedLines, List<String> again)
            throws UsageException, Commands.FailedException {
        try {
            if (file.equals(STANDARD)) {
                return importPairs(in, 0, skippedLines, again);
            }
            Path path = Path.of(Text.utf8(file));
            try (InputStream from = Files.newInputStream(path)) {
                return importPairs(from, Files.isRegularFile(path) ? Files.size(path) : 0, skippedLines, again);
            }
        } catch (IOException | InvalidPathException e) {
            throw new UsageException("cannot read " + named() + ": " + NewFile.why(e));
        }
    }

    private int importPairs(InputStream from, long totalBytes, long skippedLines, List<String> again)
            throws IOException, UsageException, Commands.FailedException {
        PairReader reader = new PairReader(named(), from);
        if (!reader.skip(skippedLines)) {
            throw new UsageException(
                    named() + " has " + reader.lines() + " lines, less than --skip-lines " + skippedLines);
        }
        long skippedBytes = reader.bytes();
        Import pairs = new Import(client, reader, progress, totalBytes);
        AtomicBoolean told = new AtomicBoolean();
        Hkvctl.whenInterrupted(() -> {
            if (told.compareAndSet(false, true)) {
                progress.say("hkvctl: interrupted; " + goOn(pairs.linesIn(), again));
            }
        });
        String failure;
        int exitCode;
        try {
            pairs.run();
            failure = null;
            exitCode = Program.DONE;
        } catch (PairReader.WrongLineException e) {
            failure = e.getMessage();
            exitCode = e.isRefusal() ? Program.REFUSED : Program.USAGE;
        } catch (HomeKvException e) {
            failure = Text.oneLine(e.getMessage());
            exitCode = Hkvctl.exitCode(e);
        } catch (IOException e) {
            failure = "cannot read " + named() + ": " + NewFile.why(e);
            exitCode = Program.USAGE;
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            failure = "interrupted";
            exitCode = Program.REFUSED;
        } finally {
            progress.clear();
        }
        if (!told.compareAndSet(false, true)) {
            return exitCode; // The process is being ended, and has said the rest.
        }
        if (failure != null) {
            throw new Commands.FailedException(exitCode, failure + "; " + goOn(pairs.linesIn(), again));
        }
        String leases = pairs.leases() == 0 ? "" : "; " + pairs.leases() + " had a lease, which was left out";
        progress.say("imported " + (reader.lines() - skippedLines) + " pairs ("
                + Text.size(reader.bytes() - skippedBytes) + ") " + progress.inSeconds() + leases);
        return exitCode;
    }

    /** How many lines are in, and the command that goes on behind them. */
    private String goOn(long lines, List<String> again) {
        List<String> words = new ArrayList<>(again);
        words.addAll(List.of("--skip-lines", Long.toString(lines)));
        if (file.startsWith("-") && !file.equals(STANDARD)) {
            words.add("--");
        }
        words.add(file);
        String command = words.stream().map(Transfer::shellWord).collect(Collectors.joining(" "));
        return (lines == 1 ? "1 line is" : lines + " lines are") + " in for sure; go on with: " + command;
    }

    /** A word as a shell takes it; what no terminal shows is not given back, though. */
    private static String shellWord(String typed) {
        String shown = Text.show(typed);
        return PLAIN_WORD.matcher(shown).matches() ? shown : "'" + shown.replace("'", "'\\''") + "'";
    }

    private String named() {
        return file.equals(STANDARD) ? "standard input" : Text.show(file);
    }
}
