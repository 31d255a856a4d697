using System.Globalization;
using System.Text;

namespace Z1Coder.Trainer.Serve;

/// <summary>Counts of values below fixed bounds, as Prometheus reads them.</summary>
/// <param name="name">of the series</param>
/// <param name="help">what it holds and its unit</param>
/// <param name="bounds">rising upper bounds; values above the last are counted too</param>
public sealed class Histogram(string name, string help, params double[] bounds)
{
    private readonly Lock _lock = new();
    private readonly long[] _counts = new long[bounds.Length + 1];
    private double _sum;

    /// <summary>Adds a value, or <paramref name="times"/> equal ones.</summary>
    public void Observe(double value, long times = 1)
    {
        var bucket = 0;
        while (bucket < bounds.Length && value > bounds[bucket])
        {
            bucket++;
        }

        lock (_lock)
        {
            _counts[bucket] += times;
            _sum += value * times;
        }
    }

    /// <summary>Appends the text format 0.0.4.</summary>
    public void Write(StringBuilder text)
    {
        ArgumentNullException.ThrowIfNull(text);
        lock (_lock)
        {
            text.Append(CultureInfo.InvariantCulture, $"# HELP {name} {help}\n# TYPE {name} histogram\n");
            long total = 0;
            for (var i = 0; i <= bounds.Length; i++)
            {
                total += _counts[i];
                var bound = i < bounds.Length ? bounds[i].ToString(CultureInfo.InvariantCulture) : "+Inf";
                text.Append(CultureInfo.InvariantCulture, $"{name}_bucket{{le=\"{bound}\"}} {total}\n");
            }

            text.Append(CultureInfo.InvariantCulture, $"{name}_sum {_sum}\n{name}_count {total}\n");
        }
    }
}
