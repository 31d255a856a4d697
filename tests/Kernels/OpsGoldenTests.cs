using System.Text.Json;
using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

/// <summary>
/// Every kernel in float against PyTorch in float64. A bound is the number of roundings on the way, inputs included, times 2^-24, times the
/// magnitude they act on: Σ |terms| for a sum, whose depth counts at its length (any order of summation passes).
/// </summary>
public sealed class OpsGoldenTests
{
    private const double Eps = KernelCheck.Eps;

    [Fact]
    public void RmsNorm_forward_and_backward()
    {
        using var golden = new OpsGolden("rmsnorm");
        foreach (var (i, meta) in golden.Cases)
        {
            var (rows, columns, eps) = (Int(meta, "T"), Int(meta, "H"), (float)meta.GetProperty("eps").GetDouble());
            var (x, w, dy) = (golden.Input($"{i}.x"), golden.Input($"{i}.w"), golden.Input($"{i}.dy"));
            var bench = golden.Bench;
            var (y, dx) = (bench.Output<float>(x.Shape), bench.Output<float>(x.Shape));
            var (rstd, dw) = (bench.Output<float>(new Shape(rows)), bench.Output<float>(new Shape(columns)));
            RmsNorm.Forward(bench.Stream, x, w, y, rstd, eps);
            var roundings = (columns / 2.0) + 8;           // rstd: half the relative error of its sum; then x, w, eps, √, 1/, two products
            var expected = golden.Doubles($"{i}.y");
            KernelCheck.EachWithin(y, expected, e => roundings * Eps * Math.Abs(expected[e]));

            RmsNorm.Backward(bench.Stream, dy, x, w, rstd, default, dx, dw, accumulate: false);
            var (xs, ws, dys) = (golden.Doubles($"{i}.x"), golden.Doubles($"{i}.w"), golden.Doubles($"{i}.dy"));
            var (dxSize, dwSize) = (new double[rows * columns], new double[columns]);
            for (var r = 0; r < rows; r++)
            {
                double squares = 0, dot = 0;
                for (var c = 0; c < columns; c++)
                {
                    var at = (r * columns) + c;
                    squares += xs[at] * xs[at];
                    dot += Math.Abs(dys[at] * ws[c] * xs[at]);
                }

                var scale = 1 / Math.Sqrt((squares / columns) + eps);
                for (var c = 0; c < columns; c++)
                {
                    var at = (r * columns) + c;
                    dxSize[at] = scale * (Math.Abs(dys[at] * ws[c]) + (Math.Abs(xs[at]) * scale * scale * dot / columns));
                    dwSize[c] += Math.Abs(dys[at] * xs[at]) * scale;
                }
            }

            // rstd comes cubed: three times its error, and the length of the dot product.
            KernelCheck.EachWithin(dx, golden.Doubles($"{i}.dx"), e => ((3 * roundings) + columns) * Eps * dxSize[e]);
            KernelCheck.EachWithin(dw, golden.Doubles($"{i}.dw"), e => (roundings + rows) * Eps * dwSize[e]);
        }
    }

    [Fact]
    public void Rope_forward_and_backward()
    {
        using var golden = new OpsGolden("rope");
        foreach (var (i, meta) in golden.Cases)
        {
            var (heads, headDim, theta) = (Int(meta, "heads"), Int(meta, "head_dim"), meta.GetProperty("theta").GetDouble());
            var positions = golden.Ints($"{i}.pos");
            using var arena = new Arena("rope");
            var table = new RopeTable(arena, positions.Max() + 1, headDim, theta);
            arena.Allocate();
            table.Fill();
            var (cos, sin) = (golden.Doubles($"{i}.cos"), golden.Doubles($"{i}.sin"));
            for (var t = 0; t < positions.Length; t++)
            {
                for (var h = 0; h < headDim / 2; h++)
                {
                    // an angle of p radians computed in double by two powers errs by a few p · 2^-53, and one rounding to float follows
                    var bound = Eps + (8 * positions[t] * Math.ScaleB(1, -53));
                    Assert.InRange(table.Cos.Row(positions[t])[h] - cos[(t * headDim / 2) + h], -bound, bound);
                    Assert.InRange(table.Sin.Row(positions[t])[h] - sin[(t * headDim / 2) + h], -bound, bound);
                }
            }

            foreach (var (from, to, backward) in new[] { ("x", "y", false), ("dy", "dx", true) })
            {
                var (source, expected) = (golden.Doubles($"{i}.{from}"), golden.Doubles($"{i}.{to}"));
                var tensor = golden.Bench.Copy<float>(new Shape(positions.Length, heads * headDim), source);
                if (backward)
                {
                    Rope.Backward(golden.Bench.Stream, tensor, golden.Bench.Ints(positions), table, heads, headDim);
                }
                else
                {
                    Rope.Forward(golden.Bench.Stream, tensor, golden.Bench.Ints(positions), table, heads, headDim);
                }

                // each of the two products: input, table (Eps absolute), product; then the sum
                KernelCheck.EachWithin(tensor, expected, e => 4 * Eps * (Math.Abs(source[e]) + Math.Abs(source[Partner(e, headDim)])));
            }
        }

        static int Partner(int e, int headDim) => e % headDim < headDim / 2 ? e + (headDim / 2) : e - (headDim / 2);
    }

    [Fact]
    public void SwiGlu_forward_and_backward()
    {
        using var golden = new OpsGolden("swiglu");
        foreach (var (i, meta) in golden.Cases)
        {
            var (rows, columns) = (Int(meta, "T"), Int(meta, "I"));
            var (gate, up, dys) = (golden.Doubles($"{i}.gate"), golden.Doubles($"{i}.up"), golden.Doubles($"{i}.dy"));
            var gateUp = golden.Bench.Copy<float>(new Shape(rows, 2 * columns), Beside(gate, up, columns));
            var (y, d) = (golden.Bench.Output<float>(new Shape(rows, columns)), golden.Bench.Output<float>(gateUp.Shape));
            SwiGlu.Forward(golden.Bench.Stream, gateUp, y);
            SwiGlu.Backward(golden.Bench.Stream, golden.Input($"{i}.dy"), gateUp, d);

            // exp(−g) turns the rounding of g into |g| roundings; exp itself has a few, σ, three products and the store one each. Below
            // float's smallest normal number the spacing is 2^-149.
            double Roundings(int e) => 12 + (2 * Math.Abs(gate[e]));
            double Sigma(int e) => 1 / (1 + Math.Exp(-gate[e]));
            var expected = golden.Doubles($"{i}.y");
            KernelCheck.EachWithin(y, expected, e => (Roundings(e) * Eps * Math.Abs(expected[e])) + Tiny(up[e]));
            var (dgate, dup) = (golden.Doubles($"{i}.dgate"), golden.Doubles($"{i}.dup"));
            KernelCheck.EachWithin(d, Beside(dgate, dup, columns), at =>
            {
                var e = (at / (2 * columns) * columns) + (at % columns);
                var size = at % (2 * columns) < columns
                    ? Math.Abs(dys[e] * up[e]) * Sigma(e) * (1 + (Math.Abs(gate[e]) * (1 - Sigma(e))))
                    : Math.Abs(dys[e] * gate[e]) * Sigma(e);
                return (Roundings(e) * Eps * size) + Tiny(dys[e] * (1 + Math.Abs(up[e])) * (1 + Math.Abs(gate[e])));
            });
        }

        static double Tiny(double scale) => Math.ScaleB(1 + Math.Abs(scale), -126);

        static double[] Beside(double[] left, double[] right, int columns) =>
            [.. left.Chunk(columns).Zip(right.Chunk(columns)).SelectMany(p => p.First.Concat(p.Second))];
    }

    [Fact]
    public void Attention_forward_and_backward()
    {
        using var golden = new OpsGolden("attention");
        foreach (var (i, meta) in golden.Cases)
        {
            var (heads, kvHeads, headDim) = (Int(meta, "heads"), Int(meta, "kv_heads"), Int(meta, "head_dim"));
            var cu = golden.Ints($"{i}.cu_seqlens");
            var oracle = new AttentionOracle(golden, i, cu, heads, kvHeads, headDim);
            var bench = golden.Bench;
            var tokens = cu[^1];
            var qkv = bench.Copy<float>(new Shape(tokens, (heads + (2 * kvHeads)) * headDim), oracle.Pack("q", "k", "v"));
            var (o, lse) = (bench.Output<float>(new Shape(tokens, heads * headDim)), bench.Output<float>(new Shape(tokens, heads)));
            var dqkv = bench.Output<float>(qkv.Shape);
            using var arena = new Arena("workspace");
            var workspace = new AttentionWorkspace(arena, bench.Cpu.Workers, tokens, heads, kvHeads, headDim, backward: true);
            arena.Allocate();
            workspace.Load(bench.Stream, cu);
            Attention.Forward(bench.Stream, qkv, o, lse, heads, kvHeads, headDim, workspace);
            KernelCheck.EachWithin(o, golden.Doubles($"{i}.o"), e => oracle.OBound[e]);
            KernelCheck.EachWithin(lse, golden.Doubles($"{i}.lse"), e => oracle.LseBound[e]);

            var dO = bench.Copy<float>(o.Shape, golden.Doubles($"{i}.do"));
            Attention.Backward(bench.Stream, dO, qkv, o, lse, dqkv, heads, kvHeads, headDim, workspace);
            KernelCheck.EachWithin(dqkv, oracle.Pack("dq", "dk", "dv"), e => oracle.GradientBound[e]);
        }
    }

    [Fact]
    public void Cross_entropy_losses_and_gradients()
    {
        using var golden = new OpsGolden("cross_entropy");
        foreach (var (i, meta) in golden.Cases)
        {
            var (rows, columns, count) = (Int(meta, "T"), Int(meta, "V"), Int(meta, "count"));
            var labels = golden.Ints($"{i}.labels");
            var logits = golden.Input($"{i}.logits");
            var (losses, alone) = (golden.Bench.Output<float>(new Shape(rows)), golden.Bench.Output<float>(new Shape(rows)));
            CrossEntropy.RowLosses(golden.Bench.Stream, logits, golden.Bench.Ints(labels), alone);
            CrossEntropy.Rows(golden.Bench.Stream, logits, golden.Bench.Ints(labels), losses, 1f);
            Assert.Equal(KernelCheck.Bits(alone), KernelCheck.Bits(losses));
            Assert.Equal(count, labels.Count(l => l != CrossEntropy.IgnoreIndex));

            // max, log Σ exp and the target's logit: roundings of numbers as large as the logits; Σ exp has V roundings, relative.
            var largest = golden.Doubles($"{i}.logits").Chunk(columns).Select(r => r.Max(Math.Abs)).ToArray();
            double Bound(int r) => ((columns / 16.0) + 16 + (4 * largest[r])) * Eps;
            var expected = golden.Doubles($"{i}.loss_per_token");
            KernelCheck.EachWithin(losses, expected, r => labels[r] < 0 ? 0 : Bound(r) + (4 * Eps * Math.Abs(expected[r])));
            var sum = losses.Span.ToArray().Sum(l => (double)l);
            var sumBound = Enumerable.Range(0, rows).Sum(Bound) + (4 * Eps * sum);
            Assert.InRange(sum - golden.Doubles($"{i}.loss_sum")[0], -sumBound, sumBound);

            var gradient = golden.Doubles($"{i}.dlogits_of_sum");
            KernelCheck.EachWithin(logits, gradient, e =>
            {
                var (r, c) = (e / columns, e % columns);
                var probability = gradient[e] + (labels[r] == c ? 1 : 0);
                return labels[r] < 0 ? 0 : (2 * Bound(r) * probability) + (labels[r] == c ? Eps : 0) + Math.ScaleB(1, -126);
            });
        }
    }

    [Fact]
    public void AdamW_step_after_step()
    {
        using var golden = new OpsGolden("adamw");
        foreach (var (i, meta) in golden.Cases)
        {
            var (n, beta1, beta2) = (Int(meta, "n"), meta.GetProperty("beta1").GetDouble(), meta.GetProperty("beta2").GetDouble());
            var (rate, eps) = (meta.GetProperty("lr").GetDouble(), meta.GetProperty("eps").GetDouble());
            var options = new AdamWOptions(rate, beta1, beta2, eps, meta.GetProperty("weight_decay").GetDouble());
            var p = golden.Input($"{i}.p0");
            var (m, v) = (golden.Bench.Allocate<float>(p.Shape), golden.Bench.Allocate<float>(p.Shape));
            var (pError, mError, vError) = (new double[n], new double[n], new double[n]);     // v's is relative
            for (var step = 1; step <= Int(meta, "steps"); step++)
            {
                var g = golden.Doubles($"{i}.g{step}");
                AdamW.Step(golden.Bench.Stream, golden.Input($"{i}.g{step}"), p, m, v, p, options, step, 1f);
                var (pGolden, mGolden) = (golden.Doubles($"{i}.p{step}"), golden.Doubles($"{i}.m{step}"));
                var vGolden = golden.Doubles($"{i}.v{step}");
                var before = golden.Doubles($"{i}.p{step - 1}");
                for (var e = 0; e < n; e++)
                {
                    mError[e] = (beta1 * mError[e]) + (4 * Eps * (Math.Abs(mGolden[e]) + Math.Abs(g[e])));
                    vError[e] += 5 * Eps;
                    var root = Math.Sqrt(vGolden[e] / (1 - Math.Pow(beta2, step))) + eps;
                    var perMoment = rate / (1 - Math.Pow(beta1, step)) / root;
                    pError[e] += (3 * Eps * Math.Abs(before[e]))
                        + (perMoment * (mError[e] + (Math.Abs(mGolden[e]) * (vError[e] + (6 * Eps)))));
                }

                KernelCheck.EachWithin(m, mGolden, e => mError[e]);
                KernelCheck.EachWithin(v, vGolden, e => (vError[e] * vGolden[e]) + Math.ScaleB(1, -140));
                KernelCheck.EachWithin(p, pGolden, e => pError[e]);
            }
        }
    }

    [Fact]
    public void Clip_by_global_norm()
    {
        using var golden = new OpsGolden("clip");
        foreach (var (i, meta) in golden.Cases)
        {
            var count = Enumerable.Range(0, 1000).First(k => !golden.Has($"{i}.g{k}"));
            var tensors = Enumerable.Range(0, count).Select(k => golden.Input($"{i}.g{k}")).ToArray();
            var norm = Math.Sqrt(GlobalNorm.SumOfSquares(golden.Bench.Stream, tensors));
            var expected = golden.Doubles($"{i}.norm")[0];
            Assert.InRange(norm - expected, -2 * Eps * expected, 2 * Eps * expected);     // the inputs' rounding; the sum is in double
            var scale = (float)GlobalNorm.ClipScale(norm, meta.GetProperty("max_norm").GetDouble());
            for (var k = 0; k < count; k++)
            {
                foreach (ref var g in tensors[k].Span)
                {
                    g *= scale;
                }

                KernelBench.Within(tensors[k], golden.Doubles($"{i}.clipped{k}"), 6 * Eps, 0);
            }
        }
    }

    [Fact]
    public void Linear_forward_and_backward()
    {
        using var golden = new OpsGolden("linear");
        foreach (var (i, meta) in golden.Cases)
        {
            var (t, k, n) = (Int(meta, "T"), Int(meta, "IN"), Int(meta, "OUT"));
            var bias = meta.GetProperty("bias").GetBoolean();
            var (x, w, dy) = (golden.Input($"{i}.x"), golden.Input($"{i}.w"), golden.Input($"{i}.dy"));
            var (y, dx) = (golden.Bench.Output<float>(dy.Shape), golden.Bench.Output<float>(x.Shape));
            var dw = golden.Bench.Output<float>(w.Shape);
            Matmul.Forward(golden.Bench.Stream, x, w, bias ? golden.Input($"{i}.b") : default, y);
            Matmul.BackwardInput(golden.Bench.Stream, dy, w, dx);
            Matmul.BackwardWeight(golden.Bench.Stream, dy, x, dw, accumulate: false);
            var (xs, ws, dys) = (golden.Doubles($"{i}.x"), golden.Doubles($"{i}.w"), golden.Doubles($"{i}.dy"));
            var b = bias ? golden.Doubles($"{i}.b") : new double[n];
            KernelCheck.EachWithin(y, golden.Doubles($"{i}.y"), e =>
                (k + 3) * Eps * (Math.Abs(b[e % n])
                    + Enumerable.Range(0, k).Sum(c => Math.Abs(xs[(e / n * k) + c] * ws[(e % n * k) + c]))));
            KernelCheck.EachWithin(dx, golden.Doubles($"{i}.dx"), e =>
                (n + 3) * Eps * Enumerable.Range(0, n).Sum(c => Math.Abs(dys[(e / k * n) + c] * ws[(c * k) + (e % k)])));
            KernelCheck.EachWithin(dw, golden.Doubles($"{i}.dw"), e =>
                (t + 3) * Eps * Enumerable.Range(0, t).Sum(r => Math.Abs(dys[(r * n) + (e / k)] * xs[(r * k) + (e % k)])));
            if (bias)
            {
                var db = golden.Bench.Output<float>(new Shape(n));
                Matmul.BackwardBias(golden.Bench.Stream, dy, db, accumulate: false);
                KernelCheck.EachWithin(
                    db, golden.Doubles($"{i}.db"), e => (t + 1) * Eps * Enumerable.Range(0, t).Sum(r => Math.Abs(dys[(r * n) + e])));
            }
        }
    }

    [Fact]
    public void Embedding_forward_and_backward()
    {
        using var golden = new OpsGolden("embedding");
        var (ids, w, dy) = (golden.Ints("ids"), golden.Input("w"), golden.Input("dy"));
        var (y, dw) = (golden.Bench.Output<float>(dy.Shape), golden.Bench.Output<float>(w.Shape));
        Embedding.Forward(golden.Bench.Stream, golden.Bench.Ints(ids), w, y);
        Embedding.Backward(golden.Bench.Stream, golden.Bench.Ints(ids), dy, dw, accumulate: false);
        KernelBench.Within(y, golden.Doubles("y"), Eps, 0);                                // copied: the input's rounding
        var (dys, columns) = (golden.Doubles("dy"), dy.Shape[1]);
        KernelCheck.EachWithin(dw, golden.Doubles("dw"), e => ids.Index().Where(p => p.Item == e / columns)
            .Sum(p => Math.Abs(dys[(p.Index * columns) + (e % columns)])) * ids.Length * Eps);
    }

    [Fact]
    public void Bf16_rounding_bit_for_bit()
    {
        using var golden = new OpsGolden("bf16_round");
        var (from, to, nan) = (golden.Ints("f32_bits"), golden.Ints("bf16_bits"), golden.Ints("is_nan"));
        Assert.NotEmpty(from);
        var padded = new float[(from.Length + 15) / 16 * 16];
        var vector = new BFloat16[padded.Length];
        for (var i = 0; i < from.Length; i++)
        {
            padded[i] = BitConverter.Int32BitsToSingle(from[i]);
        }

        for (var i = 0; i < padded.Length; i += Lanes.Count)
        {
            Lanes.Store(ref vector[i], 0, Lanes.Load(ref padded[i], 0));
        }

        for (var i = 0; i < from.Length; i++)
        {
            var one = (BFloat16)padded[i];
            Assert.Equal(one.Bits, vector[i].Bits);
            if (nan[i] != 0)
            {
                Assert.True(float.IsNaN(one), $"{from[i]:X8} became {one.Bits:X4}");
            }
            else
            {
                Assert.True(one.Bits == (ushort)to[i], $"{from[i]:X8} became {one.Bits:X4}, expected {(ushort)to[i]:X4}");
            }
        }
    }

    private static int Int(JsonElement meta, string key) => meta.GetProperty(key).GetInt32();
}
