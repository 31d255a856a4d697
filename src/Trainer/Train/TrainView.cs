using Spectre.Console;
using Spectre.Console.Rendering;

namespace Z1Coder.Trainer.Train;

/// <summary>What a person sees while a stage trains: a live table on a terminal, one plain line a step elsewhere.</summary>
public sealed class TrainView
{
    private const int CurveWidth = 60;

    private readonly string _title;
    private readonly long _totalSteps;
    private readonly bool _live;
    private readonly TextWriter _plain;
    private readonly List<double> _losses = [];
    private readonly List<string> _notes = [];
    private LiveDisplayContext? _context;
    private double _secondsPerStep;

    /// <summary>A view of a stage of <paramref name="totalSteps"/> optimizer steps.</summary>
    public TrainView(string title, long totalSteps, TextWriter plain)
    {
        (_title, _totalSteps, _plain) = (title, totalSteps, plain);
        _live = ReferenceEquals(plain, Console.Out) && !Console.IsOutputRedirected && AnsiConsole.Profile.Capabilities.Interactive;
    }

    /// <summary>Runs <paramref name="body"/> with the view on screen.</summary>
    public TResult Show<TResult>(Func<TResult> body)
    {
        if (!_live)
        {
            return body();
        }

        TResult? result = default;
        AnsiConsole.Live(new Markup($"[bold]{Markup.Escape(_title)}[/]")).Start(context =>
        {
            _context = context;
            result = body();
        });
        _context = null;
        return result!;
    }

    /// <summary>One optimizer step has ended.</summary>
    public void Step(in StepMetrics m, double mfu)
    {
        _losses.Add(m.Loss);
        _secondsPerStep = _secondsPerStep == 0 ? m.Seconds : (0.95 * _secondsPerStep) + (0.05 * m.Seconds);
        var left = TimeSpan.FromSeconds(_secondsPerStep * (_totalSteps - m.Step));
        if (_context is null)
        {
            _plain.WriteLine(
                $"{_title} step {m.Step}/{_totalSteps} epoch {m.Epoch:F2} loss {m.Loss:F4} grad {m.GradientNorm:F3} lr {m.LearningRate:E2} "
                + $"{m.TokensPerSecond:F0} tok/s useful {m.UsefulShare:P0} mfu {mfu:P0} eta {Clock(left)}{(m.Fault is null ? "" : $" SKIPPED: {m.Fault}")}");
            return;
        }

        _context.UpdateTarget(Table(m, mfu, left));
    }

    /// <summary>Something worth a line: an evaluation, a checkpoint, a skipped step.</summary>
    public void Note(string text)
    {
        if (_context is null)
        {
            _plain.WriteLine($"{_title} {text}");
            return;
        }

        _notes.Add(text);
    }

    /// <summary>Hours, however many, minutes, seconds.</summary>
    internal static string Clock(TimeSpan time) => $"{(long)time.TotalHours:00}:{time:mm\\:ss}";

    private Rows Table(in StepMetrics m, double mfu, TimeSpan left)
    {
        var table = new Table().Border(TableBorder.Rounded).Title(Markup.Escape(_title));
        table.AddColumns("step", "epoch", "loss", "grad norm", "lr", "tokens/s", "useful", "MFU", "ETA");
        table.AddRow(
            $"{m.Step}/{_totalSteps}", $"{m.Epoch:F2}", $"{m.Loss:F4}", $"{m.GradientNorm:F3}", $"{m.LearningRate:E2}", $"{m.TokensPerSecond:F0}",
            $"{m.UsefulShare:P0}", $"{mfu:P0}", Clock(left));
        var lines = new List<IRenderable> { table, new Text(Curve()) };
        lines.AddRange(_notes.TakeLast(6).Select(n => new Text(n)));
        return new Rows(lines);
    }

    /// <summary>The losses so far as one line of eighth blocks.</summary>
    private string Curve()
    {
        var finite = _losses.Where(double.IsFinite).ToList();
        if (finite.Count == 0)
        {
            return "";
        }

        var (low, high) = (finite.Min(), finite.Max());
        var width = Math.Min(CurveWidth, finite.Count);
        return string.Create(width, (finite, low, high), static (line, state) =>
        {
            for (var i = 0; i < line.Length; i++)
            {
                var value = state.finite[(int)((long)(i + 1) * state.finite.Count / line.Length) - 1];
                var level = state.high > state.low ? (value - state.low) / (state.high - state.low) : 0;
                line[i] = "▁▂▃▄▅▆▇█"[(int)Math.Min(7, level * 8)];
            }
        });
    }
}
