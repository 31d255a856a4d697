namespace Z1Coder.Tests.Kernels;

/// <summary>
/// Bounds for attention in float against a golden case in float64: the formula in double, with the magnitudes that roundings act on.
/// A score is a sum of H products: it errs by δ = (H/16 + 8) · 2^-24 · Σ |q·k| / √H (sixteen running sums, in order), a probability by a
/// factor 1 ± 2δ, δ the largest of its row; what is summed over tokens adds one rounding a term.
/// </summary>
internal sealed class AttentionOracle
{
    private const double Eps = KernelCheck.Eps;
    private readonly OpsGolden _golden;
    private readonly int _index, _tokens, _heads, _kvHeads, _headDim;

    public AttentionOracle(OpsGolden golden, int index, int[] cuSeqlens, int heads, int kvHeads, int headDim)
    {
        (_golden, _index, _tokens, _heads, _kvHeads, _headDim) = (golden, index, cuSeqlens[^1], heads, kvHeads, headDim);
        var (q, k, v, o, dO) = (Get("q"), Get("k"), Get("v"), Get("o"), Get("do"));
        var (dq, dk, dv) = (new double[q.Length], new double[k.Length], new double[v.Length]);
        (OBound, LseBound) = (new double[o.Length], new double[_tokens * heads]);
        var scale = 1 / Math.Sqrt(headDim);
        for (var s = 0; s + 1 < cuSeqlens.Length; s++)
        {
            for (var n = 0; n < heads; n++)
            {
                for (var i = cuSeqlens[s]; i < cuSeqlens[s + 1]; i++)
                {
                    Row(cuSeqlens[s], i, n);
                }
            }
        }

        GradientBound = Pack(dq, dk, dv);

        void Row(int first, int i, int n)
        {
            var (row, kv) = (((i * heads) + n) * headDim, n / (heads / kvHeads));
            var (scores, sizes) = (new double[i - first + 1], new double[i - first + 1]);
            for (var j = first; j <= i; j++)
            {
                for (var h = 0; h < headDim; h++)
                {
                    var product = q[row + h] * k[Key(j, kv) + h] * scale;
                    scores[j - first] += product;
                    sizes[j - first] += Math.Abs(product);
                }
            }

            var top = scores.Max();
            var lse = top + Math.Log(scores.Sum(x => Math.Exp(x - top)));
            var delta = ((headDim / 16.0) + 8) * Eps * sizes.Max();
            var length = i - first + 1;
            var relative = (2 * delta) + ((length + 16) * Eps);
            LseBound[(i * heads) + n] = delta + ((length + 8) * Eps) + (4 * Eps * (Math.Abs(lse) + Math.Abs(top)));
            double rowDot = 0;
            for (var h = 0; h < headDim; h++)
            {
                rowDot += Math.Abs(dO[row + h] * o[row + h]);
            }

            for (var j = first; j <= i; j++)
            {
                var p = Math.Exp(scores[j - first] - lse);
                double dot = 0;
                for (var h = 0; h < headDim; h++)
                {
                    dot += Math.Abs(dO[row + h] * v[Key(j, kv) + h]);
                }

                // dS = p · (dO·v − dO·o): o errs by its own relative bound, which is among these roundings
                var dS = p * (dot + rowDot) * scale * ((2 * relative) + (headDim * Eps));
                for (var h = 0; h < headDim; h++)
                {
                    OBound[row + h] += relative * p * Math.Abs(v[Key(j, kv) + h]);
                    dq[row + h] += dS * Math.Abs(k[Key(j, kv) + h]);
                    dk[Key(j, kv) + h] += (dS + (p * (dot + rowDot) * scale * _tokens * Eps)) * Math.Abs(q[row + h]);
                    dv[Key(j, kv) + h] += p * Math.Abs(dO[row + h]) * (relative + (_tokens * Eps));
                }
            }
        }

        int Key(int token, int head) => ((token * kvHeads) + head) * headDim;
    }

    public double[] OBound { get; }

    public double[] LseBound { get; }

    /// <summary>Packed as dqkv.</summary>
    public double[] GradientBound { get; }

    /// <summary>Rows of query, key and value heads side by side, from the golden tensors of these names.</summary>
    public double[] Pack(string q, string k, string v) => Pack(Get(q), Get(k), Get(v));

    private double[] Pack(double[] q, double[] k, double[] v) =>
        [.. Enumerable.Range(0, _tokens).SelectMany(t => Part(q, t, _heads).Concat(Part(k, t, _kvHeads)).Concat(Part(v, t, _kvHeads)))];

    private IEnumerable<double> Part(double[] x, int token, int heads) => x.Skip(token * heads * _headDim).Take(heads * _headDim);

    private double[] Get(string name) => _golden.Doubles($"{_index}.{name}");
}
