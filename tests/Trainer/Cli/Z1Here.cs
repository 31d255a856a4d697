using System.Text;
using Spectre.Console;
using Z1Coder.Trainer.Cli;

namespace Z1Coder.Tests.Trainer.Cli;

/// <summary>z1 inside the test process. What it writes goes to its own run, from whichever thread; runs side by side do not meet.</summary>
internal static class Z1Here
{
    private const int LongestSeconds = 120;

    private static readonly AsyncLocal<Written?> s_run = new();

    // Before the first run: what is not a run's goes where it went.
    static Z1Here()
    {
        Environment.SetEnvironmentVariable("Z1_TRACE", null);
        Console.SetOut(new Router(Console.Out, run => run.Output));
        Console.SetError(new Router(Console.Error, run => run.Error));
        AnsiConsole.Console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Ansi = AnsiSupport.No, Interactive = InteractionSupport.No, ColorSystem = ColorSystemSupport.NoColors, Out = new AnsiConsoleOutput(Console.Out),
        });
    }

    /// <summary>Runs to the end on a thread of its own, as a process would: what is left to threads (scratch, contexts) is new.</summary>
    public static Z1Result Run(params string[] arguments)
    {
        var written = new Written(new(), new());
        var code = 0;
        Exception? failure = null;
        var thread = new Thread(() =>
        {
            s_run.Value = written;
            try
            {
                code = Z1Coder.Trainer.Cli.Cli.Run(arguments);
            }
            catch (Exception e)
            {
                failure = e;
            }
        })
        { IsBackground = true };
        thread.Start();
        if (!thread.Join(TimeSpan.FromSeconds(LongestSeconds)))
        {
            throw new TimeoutException($"z1 {string.Join(' ', arguments)} did not end in {LongestSeconds} s; it said:\n{written}");
        }

        return failure is null
            ? new Z1Result(code, written.Output.ToString(), written.Error.ToString())
            : throw new InvalidOperationException($"z1 {string.Join(' ', arguments)} let an exception through; it said:\n{written}", failure);
    }

    private sealed record Written(StringBuilder Output, StringBuilder Error)
    {
        public override string ToString() => $"{Output}{Error}";
    }

    private sealed class Router(TextWriter other, Func<Written, StringBuilder> of) : TextWriter
    {
        public override Encoding Encoding => other.Encoding;

        public override void Write(char value) => Write([value]);

        public override void Write(string? value) => Write(value.AsSpan());

        public override void Write(char[] buffer, int index, int count) => Write(buffer.AsSpan(index, count));

        public override void Write(ReadOnlySpan<char> buffer)
        {
            if (s_run.Value is not { } run)
            {
                other.Write(buffer);
                return;
            }

            var text = of(run);
            lock (text)
            {
                text.Append(buffer);
            }
        }

        public override void WriteLine(string? value) => Write(value + "\n");

        public override void WriteLine(ReadOnlySpan<char> buffer) => Write([.. buffer, '\n']);

        public override void Flush() => other.Flush();
    }
}
