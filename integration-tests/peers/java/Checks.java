import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** Runs named checks one after another and prints PASS, FAIL or SKIP for each; one failure does not stop the rest. */
final class Checks {
    /** A check's body. */
    interface Body {
        void run() throws Exception;
    }

    /** Something that becomes true after a while. */
    interface Condition {
        boolean holds() throws Exception;
    }

    /** Thrown by a check that the server is not configured for. */
    static final class Skipped extends Exception {
        private static final long serialVersionUID = 1L;

        Skipped(String why) {
            super(why);
        }
    }

    private int failed;
    private int passed;

    void check(String name, Body body) {
        try {
            body.run();
            passed++;
            Peer.line("PASS %s", name);
        } catch (Skipped e) {
            Peer.line("SKIP %s: %s", name, e.getMessage());
        } catch (Exception | AssertionError e) {
            failed++;
            Peer.line("FAIL %s: %s", name, e);
        }
    }

    /** Ends the process: 0 when all passed. */
    void finish() {
        Peer.line("SUMMARY passed=%d failed=%d", passed, failed);
        System.exit(failed == 0 ? 0 : 1);
    }

    static void equal(Object wanted, Object seen) {
        if (!Objects.equals(wanted, seen)) {
            throw new AssertionError("wanted " + wanted + ", saw " + seen);
        }
    }

    static void isTrue(boolean seen, String what) {
        if (!seen) {
            throw new AssertionError(what);
        }
    }

    /** The body must throw just this exception. */
    static void refused(Class<? extends Exception> wanted, Body body) throws Exception {
        try {
            body.run();
        } catch (Exception e) {
            if (wanted.isInstance(e)) {
                return;
            }
            throw e;
        }
        throw new AssertionError("wanted " + wanted.getSimpleName() + ", but it succeeded");
    }

    static void eventually(String what, Condition condition) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(15);
        while (!condition.holds()) {
            if (System.nanoTime() > deadline) {
                throw new TimeoutException("not within 15 s: " + what);
            }
            Thread.sleep(10);
        }
    }
}
