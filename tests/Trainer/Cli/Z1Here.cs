using System.Text;
using Spectre.Console;
using Z1Coder.Trainer.Cli;

namespace Z1Coder.Tests.Trainer.Cli;

/// <summary>z1 inside the test process. What it writes goes to its own run, from whichever thread; runs side by side do not meet.</summary>
internal static class Z1Here
{
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
        if (!thread.Join(TimeSpan.FromSeconds(Z1.LongestSeconds)))
        {
            throw new TimeoutException($"z1 {string.Join(' ', arguments)} did not end in {Z1.LongestSeconds} s; it said:\n{written}");
        }

        return failure is null
            ? new Z1Result(code, written.Output.ToString(), written.Error.ToString())
            : throw new InvalidOperationException($"z1 {string.Join(' ', arguments)} let an exception through; it said:\n{written}", failure);
    }

    private sealed record Written(Text Output, Text Error)
    {
        public override string ToString() => $"{Output}{Error}";
    }

    /// <summary>Read while a thread that a run left behind may still write.</summary>
    private sealed class Text
    {
        private readonly StringBuilder _text = new();

        public void Append(ReadOnlySpan<char> more)
        {
            lock (_text)
            {
                _text.Append(more);
            }
        }

        public override string ToString()
        {
            lock (_text)
            {
                return _text.ToString();
            }
        }
    }

    // The base class brings everything else to these two, and Console makes each call of it whole.
    private sealed class Router(TextWriter other, Func<Written, Text> of) : TextWriter
    {
        public override Encoding Encoding => other.Encoding;

        public override void Write(char value) => Write([value], 0, 1);

        public override void Write(char[] buffer, int index, int count)
        {
            if (s_run.Value is { } run)
            {
                of(run).Append(buffer.AsSpan(index, count));
            }
            else
            {
                other.Write(buffer, index, count);
            }
        }

        public override void Flush() => other.Flush();
    }
}
