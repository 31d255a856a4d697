using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class Sample
{
    private static void ForwardCpu<T>(
        CpuStream stream, Tensor<T> logits, Tensor<float> temperature, Tensor<float> topP, Tensor<int> topK, Tensor<ulong> seed, Tensor<int> counter,
        Tensor<int> token)
        where T : unmanaged
    {
        var each = typeof(T) == typeof(float) ? logits.Shape[1] : Bins.Scratch;
        stream.For(
            logits.Shape[0], 1, new Job<T>(logits, temperature, topP, topK, seed, counter, token, Scratch.Of<ulong>(stream, stream.Workers, each)));
    }

    /// <param name="top">the largest logit of the row, above −∞</param>
    /// <param name="temperature">above 0</param>
    /// <param name="topP">in [0, 1]</param>
    /// <param name="topK">at least 0</param>
    /// <param name="scale">s of the weights</param>
    /// <param name="seed">of the sequence</param>
    /// <param name="counter">of the draw</param>
    private readonly struct Rule(float top, float temperature, float topP, int topK, int scale, ulong seed, int counter)
    {
        public float TopP => topP;

        public int TopK => topK;

        public ulong WeightOf(float value) => Weight(value, top, temperature, scale);

        public ulong Draw(ulong total) => Sample.Draw(seed, counter, total);
    }

    private readonly struct Job<T>(
        Tensor<T> logits, Tensor<float> temperature, Tensor<float> topP, Tensor<int> topK, Tensor<ulong> seed, Tensor<int> counter, Tensor<int> token,
        Tensor<ulong> scratch) : ICpuJob
        where T : unmanaged
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            for (var r = begin; r < end; r++)
            {
                token.Span[r] = Row(r, scratch.Row(worker));
            }
        }

        private int Row(int r, Span<ulong> memory)
        {
            var row = logits.Row(r);
            var best = Argmax.OfRow(ref row[0], row.Length);
            if (temperature.Span[r] == 0)
            {
                return best;
            }

            var top = Lanes.Get(ref row[0], (nuint)best);
            if (!(top > float.NegativeInfinity))
            {
                return 0;
            }

            var rule = new Rule(top, temperature.Span[r], topP.Span[r], topK.Span[r], ScaleOf(row.Length), seed.Span[r], counter.Span[r]);
            return typeof(T) == typeof(float)
                ? Digits.Draw(MemoryMarshal.Cast<T, float>(row), memory, rule)
                : Bins.Draw(MemoryMarshal.Cast<T, ushort>(row), BitConverter.SingleToUInt32Bits(top) >> 16, memory, rule);
        }
    }
}
