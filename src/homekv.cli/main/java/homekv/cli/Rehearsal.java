package homekv.cli;

import java.io.BufferedOutputStream;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.logging.Level;

/**
 * Runs commands of hkvctl, and then hkvctl itself with this program's arguments, in one JVM, so that the AOT cache of the
 * launcher knows them all. Standard input has a command a line, its arguments with a space between two. The first that
 * fails ends it, with the exit code of the program.
 *
 * <p>Only the image's build calls this: see jlink/LinkImage.java.
 */
public final class Rehearsal {
    private Rehearsal() {}

    public static void main(String[] args) throws IOException {
        List<String> commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))
                .lines()
                .toList();
        OutputStream out = new BufferedOutputStream(new FileOutputStream(FileDescriptor.out));
        PrintStream err = new PrintStream(new FileOutputStream(FileDescriptor.err), true, StandardCharsets.UTF_8);
        Program.logOnly(Level.OFF); // As hkvctl does, which says in a line what goes wrong.
        for (String command : commands) {
            int exitCode = Hkvctl.run(List.of(command.split(" ")), InputStream.nullInputStream(), out, err);
            if (exitCode != Program.DONE) {
                System.exit(exitCode);
            }
        }
        Hkvctl.main(args);
    }
}
