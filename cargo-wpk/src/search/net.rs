//! A small neural network with one hidden layer of hyperbolic tangents and one result, its gradient, and gradient steps by Adam
//! (Kingma and Ba, 2015).

use super::Rng;

/// Hidden units.
const HIDDEN: usize = 24;

/// A network from `inputs` numbers to one.
#[derive(Debug, Clone, PartialEq)]
pub struct Net {
    inputs: usize,
    /// By hidden unit: its weights and its bias; then the weights of the result and its bias.
    pub weights: Vec<f64>,
    moments: Vec<(f64, f64)>,
    steps: i32,
}

impl Net {
    /// Small random weights.
    pub fn new(inputs: usize, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let count = HIDDEN * (inputs + 1) + HIDDEN + 1;
        let scale = 1.0 / (inputs as f64).sqrt();
        let mut weights: Vec<f64> = (0..count).map(|_| (rng.unit() - 0.5) * 2.0 * scale).collect();
        // At first every result is nearly zero.
        weights[HIDDEN * (inputs + 1)..].iter_mut().for_each(|w| *w *= 0.1);
        Self { inputs, weights, moments: vec![(0.0, 0.0); count], steps: 0 }
    }

    /// Weights that were kept; `None` where they are not as many as the network has.
    pub fn with_weights(inputs: usize, weights: Vec<f64>) -> Option<Self> {
        let fresh = Self::new(inputs, 0);
        (weights.len() == fresh.weights.len()).then_some(Self { weights, ..fresh })
    }

    fn hidden(&self, x: &[f64]) -> Vec<f64> {
        let row = |h: usize| &self.weights[h * (self.inputs + 1)..(h + 1) * (self.inputs + 1)];
        let sum = |h: usize| row(h).iter().zip(x.iter().chain([&1.0])).map(|(w, x)| w * x).sum::<f64>();
        (0..HIDDEN).map(|h| sum(h).tanh()).collect()
    }

    /// The result.
    pub fn value(&self, x: &[f64]) -> f64 {
        let out = &self.weights[HIDDEN * (self.inputs + 1)..];
        self.hidden(x).iter().chain([&1.0]).zip(out).map(|(h, w)| h * w).sum()
    }

    /// Adds `factor` times the derivative of the result by every weight.
    pub fn add_gradient(&self, x: &[f64], factor: f64, gradient: &mut [f64]) {
        let first = HIDDEN * (self.inputs + 1);
        let hidden = self.hidden(x);
        for (h, &y) in hidden.iter().enumerate() {
            gradient[first + h] += factor * y;
            let slope = factor * self.weights[first + h] * (1.0 - y * y);
            let row = &mut gradient[h * (self.inputs + 1)..(h + 1) * (self.inputs + 1)];
            row.iter_mut().zip(x.iter().chain([&1.0])).for_each(|(g, x)| *g += slope * x);
        }
        gradient[first + HIDDEN] += factor;
    }

    /// Zeros for a gradient.
    pub fn zeros(&self) -> Vec<f64> {
        vec![0.0; self.weights.len()]
    }

    /// Moves every weight up its gradient.
    pub fn ascend(&mut self, gradient: &[f64], rate: f64) {
        self.steps += 1;
        let correct = |beta: f64| 1.0 - beta.powi(self.steps);
        for ((w, (m, v)), g) in self.weights.iter_mut().zip(&mut self.moments).zip(gradient) {
            *m = 0.9 * *m + 0.1 * g;
            *v = 0.999 * *v + 0.001 * g * g;
            *w += rate * (*m / correct(0.9)) / ((*v / correct(0.999)).sqrt() + 1e-8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Net;

    #[test]
    fn the_gradient_agrees_with_differences() {
        let x = [0.3, -0.7, 1.1];
        let net = Net::new(3, 5);
        let mut gradient = net.zeros();
        net.add_gradient(&x, 2.0, &mut gradient);
        for (i, g) in gradient.iter().enumerate() {
            let moved = |by: f64| {
                let mut net = net.clone();
                net.weights[i] += by;
                2.0 * net.value(&x)
            };
            let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!((g - expected).abs() < 1e-7, "weight {i}: {g} instead of {expected}");
        }
    }

    #[test]
    fn ascending_learns_a_function() {
        let mut net = Net::new(1, 1);
        for _ in 0..2000 {
            let mut gradient = net.zeros();
            for x in (-10..=10).map(|i| [f64::from(i) / 10.0]) {
                net.add_gradient(&x, x[0] * x[0] - net.value(&x), &mut gradient);
            }
            net.ascend(&gradient, 0.01);
        }
        assert!([-0.8, -0.1, 0.5].iter().all(|&x: &f64| (net.value(&[x]) - x * x).abs() < 0.1));
    }
}
