namespace Z1Coder.Trainer.Train;

/// <summary>
/// Watches loss and gradient norm. Not finite is always bad; a value more than <paramref name="zScore"/> standard deviations above the mean
/// of the last <paramref name="window"/> good steps is a spike (judged only once the window is full). zScore 0 switches spikes off.
/// </summary>
public sealed class SpikeGuard(double zScore, int window)
{
    private readonly Queue<double> _losses = new(window + 1);
    private readonly Queue<double> _norms = new(window + 1);

    /// <summary>What is wrong with this step, as a clause for the log; null when nothing is.</summary>
    public string? Judge(double loss, double gradientNorm)
    {
        if (!double.IsFinite(loss) || !double.IsFinite(gradientNorm))
        {
            return $"loss {loss} or gradient norm {gradientNorm} is not finite";
        }

        var spike = Spike("loss", _losses, loss) ?? Spike("gradient norm", _norms, gradientNorm);
        if (spike is null)
        {
            Remember(_losses, loss);
            Remember(_norms, gradientNorm);
        }

        return spike;
    }

    /// <summary>The window, oldest first, for a checkpoint: losses then norms.</summary>
    public (double[] Losses, double[] Norms) Save() => ([.. _losses], [.. _norms]);

    /// <summary>Puts a saved window back, so that a resumed run judges as the uninterrupted one would; of a longer one its end.</summary>
    public void Restore(IEnumerable<double> losses, IEnumerable<double> norms)
    {
        _losses.Clear();
        _norms.Clear();
        foreach (var loss in losses)
        {
            Remember(_losses, loss);
        }

        foreach (var norm in norms)
        {
            Remember(_norms, norm);
        }
    }

    private string? Spike(string what, Queue<double> past, double value)
    {
        if (zScore <= 0 || past.Count < window)
        {
            return null;
        }

        double sum = 0, squares = 0;
        foreach (var p in past)
        {
            sum += p;
            squares += p * p;
        }

        var mean = sum / past.Count;
        var deviation = Math.Sqrt(Math.Max(0, (squares / past.Count) - (mean * mean)));
        var z = (value - mean) / Math.Max(deviation, 1e-12 * Math.Abs(mean));
        return z > zScore ? $"{what} {value:G6} is {z:F1} standard deviations above its mean {mean:G6} over {window} steps" : null;
    }

    private void Remember(Queue<double> past, double value)
    {
        if (window <= 0)
        {
            return;
        }

        past.Enqueue(value);
        if (past.Count > window)
        {
            past.Dequeue();
        }
    }
}
